// Parameters and the end of a product by tiles: alpha, beta, c, and the store.
struct Params {
  // Strides of two batch axes.
  y_batch: vec2<u32>,
  c_batch: vec2<u32>,
  a_batch: vec2<u32>,
  b_batch: vec2<u32>,
  m: u32,
  n: u32,
  k: u32,
  y_offset: u32,
  y_row: u32,
  y_column: u32,
  c_offset: u32,
  c_row: u32,
  c_column: u32,
  // Of the left operand a: rows m. Of the right operand b: rows n.
  a_offset: u32,
  a_row: u32,
  a_k: u32,
  b_offset: u32,
  b_row: u32,
  b_k: u32,
  // Length of the second batch axis.
  batch: u32,
  splits: u32,
  range: u32,
  y_split: u32,
  alpha: f32,
  beta: f32,
  // The second product.
  k2: u32,
  h_offset: u32,
  h_row: u32,
  h_k: u32,
  l_offset: u32,
  l_row: u32,
  l_k: u32,
  scale: f32,
  // Of a quantized right operand: where its scales and codebook start, the length of its rows, log2 of its block size.
  s_offset: u32,
  t_offset: u32,
  width: u32,
  shift: u32,
}
@group(0) @binding(0) var<uniform> P: Params;

fn finished(sum: vec4<f32>, c_at: u32, columns: u32) -> vec4<f32> {
  var v = P.alpha * sum;
#if ADDS
  for (var e = 0u; e < columns; e++) {
    v[e] += P.beta * c_load(c_at + e * P.c_column);
  }
#endif
  return v;
}

// Four elements of a row of y, or as many as there are.
fn put(y_base: u32, c_base: u32, row: u32, column: u32, sum: vec4<f32>) {
  if row >= P.m || column >= P.n {
    return;
  }
  let columns = min(4u, P.n - column);
  let v = finished(sum, c_base + row * P.c_row + column * P.c_column, columns);
  let at = y_base + row * P.y_row + column * P.y_column;
  y_put_quad(at, v, columns, P.y_column);
}
