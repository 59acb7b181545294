// y of any strides, an element at a time. Operand w: codes at byte u0, s: scales (f32) at u1, t: codebook at u2; u3: log2 of the block size.
#include "common/wgsl/elementwise.wgsl"
#include "common/wgsl/operand.wgsl" (N = w)
#include "common/wgsl/operand.wgsl" (N = s)
#include "common/wgsl/operand.wgsl" (N = t)

fn element(at: At) -> y_t {
#if BITS == 4
  let byte = w_load(P.u0 + (at.i >> 1u));
  let code = select(byte >> 4u, byte & 15u, (at.i & 1u) == 1u);
#else
  let code = w_load(P.u0 + at.i);
#endif
  return t_load(P.u2 + code) * s_load(P.u1 + (at.i >> P.u3));
}
