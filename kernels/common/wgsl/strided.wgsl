// Parameters of kernels that walk a shape of up to four axes with the strides of up to five operands. Strides and offsets in elements.
struct Params {
  shape: vec4<u32>,
  y_strides: vec4<u32>,
  a_strides: vec4<u32>,
  b_strides: vec4<u32>,
  c_strides: vec4<u32>,
  d_strides: vec4<u32>,
  // Of y, a, b, c.
  offsets: vec4<u32>,
  d_offset: u32,
  // Row-major index of the first element in the whole tensor, where a dispatch does a part of it.
  start: u32,
  // Units of work: words of y, elements or rows.
  units: u32,
  // Words of y that a row takes, and elements of the first word that belong to others.
  words: u32,
  phase: u32,
  // What the op needs beside.
  u0: u32,
  u1: u32,
  u2: u32,
  u3: u32,
  f0: f32,
  f1: f32,
  f2: f32,
  f3: f32,
}
@group(0) @binding(0) var<uniform> P: Params;

// Where an element lies: its row-major index, and its index in each operand.
struct At {
  i: u32,
  y: u32,
  a: u32,
  b: u32,
  c: u32,
  d: u32,
}

fn locate_axes(i: u32, x: vec4<u32>) -> At {
  return At(
    i,
    P.offsets.x + dot(x, P.y_strides),
    P.offsets.y + dot(x, P.a_strides),
    P.offsets.z + dot(x, P.b_strides),
    P.offsets.w + dot(x, P.c_strides),
    P.d_offset + dot(x, P.d_strides),
  );
}
