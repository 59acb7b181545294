// Parameters of the gradients of attention, and what prepare.wgsl left for each query.
struct Params {
  // Strides of batch, position, head, element.
  a_strides: vec4<u32>,
  b_strides: vec4<u32>,
  c_strides: vec4<u32>,
  e_strides: vec4<u32>,
  u_strides: vec4<u32>,
  x_strides: vec4<u32>,
  a_offset: u32,
  b_offset: u32,
  c_offset: u32,
  e_offset: u32,
  u_offset: u32,
  x_offset: u32,
  z_offset: u32,
  batches: u32,
  heads: u32,
  queries: u32,
  keys: u32,
  width: u32,
  // Query heads that share a key head.
  group: u32,
  scale: f32,
}
@group(0) @binding(0) var<uniform> P: Params;

fn stats(batch: u32, head: u32, query: u32) -> vec2<f32> {
  let at = P.z_offset + ((batch * P.heads + head) * P.queries + query) * 2u;
  return vec2<f32>(z_load(at), z_load(at + 1u));
}

fn bounds(batch: u32, query: u32) -> vec2<u32> {
  let at = P.z_offset + (P.batches * P.heads * P.queries + batch * P.queries + query) * 2u;
  return vec2<u32>(u32(z_load(at)), u32(z_load(at + 1u)));
}
