// `$(N)_eight`: eight elements of operand $(N) as f16 codes in one vector; zeros from `rows` and `end` on. Along the inner axis (MODE
// `inner`): k … k + 7 of a row; along the rows (`outer`): row … row + 7 at k. `rows` or `end` is then a multiple of 8.
fn $(N)_eight(base: u32, row: u32, rows: u32, k: u32, end: u32, row_stride: u32, k_stride: u32) -> vec4<u32> {
  if row >= rows || k >= end {
    return vec4<u32>();
  }
  let at = base + row * row_stride + k * k_stride;
#if $(N)_TYPE == f16
  return $($(N)_BUFFER)[at >> 3u];
#else
  let low = $(N)_load4(at);
  let high = $(N)_load4(at + 4u);
  return vec4<u32>(pack2x16float(low.xy), pack2x16float(low.zw), pack2x16float(high.xy), pack2x16float(high.zw));
#endif
}
