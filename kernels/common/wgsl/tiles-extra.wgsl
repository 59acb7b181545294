#if EXTRA
#include "common/wgsl/operand.wgsl" (N = h)
#include "common/wgsl/block.wgsl" (N = h)
#include "common/wgsl/operand.wgsl" (N = l)
#include "common/wgsl/block.wgsl" (N = l)

fn left2(row: u32, k: u32, end: u32) -> mat4x4<f32> {
  return h_block(P.h_offset, row, P.m, k, end, P.h_row, P.h_k);
}

fn right2(row: u32, k: u32, end: u32) -> mat4x4<f32> {
  return P.scale * l_block(P.l_offset, row, P.n, k, end, P.l_row, P.l_k);
}
#endif
