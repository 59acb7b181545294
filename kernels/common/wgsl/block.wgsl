// `$(N)_block`: a block of 4 × 4 elements of the dense float operand $(N), as four columns: column j holds rows row … row + 3 at inner
// index k + j; zeros from `rows` and `end` on. MODE `inner`: elements along k lie side by side and vector loads may take them; `outer`: along
// the rows; `any`: neither.
//
// `$(N)_whole`: the same, where all of it is there and MODE is not `any`.
#if $(N)_MODE == inner
fn $(N)_whole(base: u32, row: u32, k: u32, row_stride: u32, k_stride: u32) -> mat4x4<f32> {
  let at = base + row * row_stride + k;
  return transpose(mat4x4<f32>(
    $(N)_load4(at),
    $(N)_load4(at + row_stride),
    $(N)_load4(at + 2u * row_stride),
    $(N)_load4(at + 3u * row_stride),
  ));
}
#elif $(N)_MODE == outer
fn $(N)_whole(base: u32, row: u32, k: u32, row_stride: u32, k_stride: u32) -> mat4x4<f32> {
  let at = base + k * k_stride + row;
  return mat4x4<f32>(
    $(N)_load4(at),
    $(N)_load4(at + k_stride),
    $(N)_load4(at + 2u * k_stride),
    $(N)_load4(at + 3u * k_stride),
  );
}
#endif

fn $(N)_block(base: u32, row: u32, rows: u32, k: u32, end: u32, row_stride: u32, k_stride: u32) -> mat4x4<f32> {
#if $(N)_MODE != any
  if row + 4u <= rows && k + 4u <= end {
    return $(N)_whole(base, row, k, row_stride, k_stride);
  }
#endif
  // In a loop, since this is for the edges: shaders stay short.
  var block = mat4x4<f32>();
  for (var e = 0u; e < 16u; e++) {
    let i = row + (e & 3u);
    let j = k + (e >> 2u);
    let value = $(N)_load(base + min(i, rows - 1u) * row_stride + min(j, end - 1u) * k_stride);
    block[e >> 2u][e & 3u] = select(0.0, value, i < rows && j < end);
  }
  return block;
}

// Elements k … k + 3 of one row; zeros from `rows` and `end` on.
fn $(N)_quad(base: u32, row: u32, rows: u32, k: u32, end: u32, row_stride: u32, k_stride: u32) -> vec4<f32> {
#if $(N)_MODE == inner
  if row < rows && k + 4u <= end {
    return $(N)_load4(base + row * row_stride + k);
  }
#endif
  var quad = vec4<f32>();
  for (var e = 0u; e < 4u; e++) {
    let value = $(N)_load(base + min(row, rows - 1u) * row_stride + min(k + e, end - 1u) * k_stride);
    quad[e] = select(0.0, value, row < rows && k + e < end);
  }
  return quad;
}
