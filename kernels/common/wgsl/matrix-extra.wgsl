#if EXTRA
#include "common/wgsl/operand.wgsl" (N = h)
#include "common/wgsl/eight.wgsl" (N = h)
#include "common/wgsl/operand.wgsl" (N = l)
#include "common/wgsl/eight.wgsl" (N = l)

fn left2(row: u32, k: u32, end: u32) -> vec4<u32> {
  return h_eight(P.h_offset, row, P.m, k, end, P.h_row, P.h_k);
}

fn right2(row: u32, k: u32, end: u32) -> vec4<u32> {
  let v = l_eight(P.l_offset, row, P.n, k, end, P.l_row, P.l_k);
  return vec4<u32>(
    pack2x16float(P.scale * unpack2x16float(v.x)),
    pack2x16float(P.scale * unpack2x16float(v.y)),
    pack2x16float(P.scale * unpack2x16float(v.z)),
    pack2x16float(P.scale * unpack2x16float(v.w)),
  );
}
#endif
