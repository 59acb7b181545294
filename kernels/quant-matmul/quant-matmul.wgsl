// The right operand is a blockwise-quantized weight [rows, width], dequantized on its way into workgroup memory: as it lies (y = x · Wᵀ,
// inner axis along its rows), or TRANSPOSED (y = x · W). EXTRA: h · lᵀ times `scale` is added.
#include "common/wgsl/tiles.wgsl"
#include "common/wgsl/operand.wgsl" (N = a)
#include "common/wgsl/block.wgsl" (N = a)
#include "common/wgsl/codes.wgsl"

fn left(row: u32, k: u32, end: u32) -> mat4x4<f32> {
  return a_block(a_base, row, P.m, k, end, P.a_row, P.a_k);
}

fn right(row: u32, k: u32, end: u32) -> mat4x4<f32> {
#if ALIGNED
#if TRANSPOSED
  if row + 4u <= P.n && k + 4u <= end {
    let e = k * P.width + row;
    return mat4x4<f32>(four_values(e), four_values(e + P.width), four_values(e + 2u * P.width), four_values(e + 3u * P.width));
  }
#else
  if row + 4u <= P.n && k + 4u <= end {
    let e = row * P.width + k;
    return transpose(mat4x4<f32>(four_values(e), four_values(e + P.width), four_values(e + 2u * P.width), four_values(e + 3u * P.width)));
  }
#endif
#endif
  var block = mat4x4<f32>();
  for (var e = 0u; e < 16u; e++) {
    let i = row + (e & 3u);
    let j = k + (e >> 2u);
#if TRANSPOSED
    let value = value_of(min(j, end - 1u) * P.width + min(i, P.n - 1u));
#else
    let value = value_of(min(i, P.n - 1u) * P.width + min(j, end - 1u));
#endif
    block[e >> 2u][e & 3u] = select(0.0, value, i < P.n && j < end);
  }
  return block;
}
#include "common/wgsl/tiles-extra.wgsl"
