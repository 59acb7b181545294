// Parameters of attention.
struct Params {
  // Strides of batch, position, head, element.
  q_strides: vec4<u32>,
  k_strides: vec4<u32>,
  v_strides: vec4<u32>,
  y_strides: vec4<u32>,
  // Of batch, head, position.
  lse_strides: vec4<u32>,
  // Of batch and position.
  starts_strides: vec2<u32>,
  ends_strides: vec2<u32>,
  q_offset: u32,
  k_offset: u32,
  v_offset: u32,
  y_offset: u32,
  lse_offset: u32,
  starts_offset: u32,
  ends_offset: u32,
  queries: u32,
  keys: u32,
  width: u32,
  // Query heads that share a key head.
  group: u32,
  scale: f32,
}
@group(0) @binding(0) var<uniform> P: Params;
