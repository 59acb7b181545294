// As quant-matmul.wgsl, on subgroup matrices: eight codes become a vector of f16.
#include "common/wgsl/matrix-tiles.wgsl"
#include "common/wgsl/operand.wgsl" (N = a)
#include "common/wgsl/eight.wgsl" (N = a)
#include "common/wgsl/codes.wgsl"

fn left(row: u32, k: u32, end: u32) -> vec4<u32> {
  return a_eight(a_base, row, P.m, k, end, P.a_row, P.a_k);
}

fn right(row: u32, k: u32, end: u32) -> vec4<u32> {
  if row >= P.n || k >= end {
    return vec4<u32>();
  }
#if TRANSPOSED
  let e = k * P.width + row;
#else
  let e = row * P.width + k;
#endif
  let low = four_values(e);
  let high = four_values(e + 4u);
  return vec4<u32>(pack2x16float(low.xy), pack2x16float(low.zw), pack2x16float(high.xy), pack2x16float(high.zw));
}
#include "common/wgsl/matrix-extra.wgsl"
