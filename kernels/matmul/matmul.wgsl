// Dense operands a [m, k] and b [n, k] (rows n; its strides say how it lies), by tiles. EXTRA: h [m, k2] and l [n, k2], times `scale`.
#include "common/wgsl/tiles.wgsl"
#include "common/wgsl/operand.wgsl" (N = a)
#include "common/wgsl/block.wgsl" (N = a)
#include "common/wgsl/operand.wgsl" (N = b)
#include "common/wgsl/block.wgsl" (N = b)

fn left(row: u32, k: u32, end: u32) -> mat4x4<f32> {
  return a_block(a_base, row, P.m, k, end, P.a_row, P.a_k);
}

fn right(row: u32, k: u32, end: u32) -> mat4x4<f32> {
  return b_block(b_base, row, P.n, k, end, P.b_row, P.b_k);
}

fn prepare(id: u32) {
}
#include "common/wgsl/tiles-extra.wgsl"
