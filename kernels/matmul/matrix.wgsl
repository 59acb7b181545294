// Dense operands a [m, k] and b [n, k] on subgroup matrices. EXTRA: h [m, k2] and l [n, k2], times `scale`, both along their inner axis.
#include "common/wgsl/matrix-tiles.wgsl"
#include "common/wgsl/operand.wgsl" (N = a)
#include "common/wgsl/eight.wgsl" (N = a)
#include "common/wgsl/operand.wgsl" (N = b)
#include "common/wgsl/eight.wgsl" (N = b)

fn left(row: u32, k: u32, end: u32) -> vec4<u32> {
  return a_eight(a_base, row, P.m, k, end, P.a_row, P.a_k);
}

fn right(row: u32, k: u32, end: u32) -> vec4<u32> {
  return b_eight(b_base, row, P.n, k, end, P.b_row, P.b_k);
}

fn prepare(id: u32) {
}
#include "common/wgsl/matrix-extra.wgsl"
