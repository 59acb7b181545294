// In place. Operand y: p, a: g, b: m, c: v (f32), hyper f32 [4] at u0, gradScale f32 [1] at u1 (SCALED). f0: 1 − β₁, f1: β₂, f2: eps,
// f3: 1 − β₂ (rounded from f64: a difference in f32 would lose digits).
#include "common/wgsl/elementwise.wgsl"
#include "common/wgsl/operand.wgsl" (N = a)
#include "common/wgsl/operand.wgsl" (N = b)
#include "common/wgsl/operand.wgsl" (N = c)
#include "common/wgsl/operand.wgsl" (N = hyper)
#if SCALED
#include "common/wgsl/operand.wgsl" (N = scale)
#endif

fn element(at: At) -> y_t {
  let lr = hyper_load(P.u0);
  let decay = hyper_load(P.u0 + 1u);
  let correction1 = hyper_load(P.u0 + 2u);
  let root_correction2 = hyper_load(P.u0 + 3u);
#if SCALED
  let g = a_load(at.a) * scale_load(P.u1);
#else
  let g = a_load(at.a);
#endif
  let m0 = b_load(at.b);
  let m = m0 + (g - m0) * P.f0;
  let v = P.f1 * c_load(at.c) + P.f3 * g * g;
  b_store(at.b, m);
  c_store(at.c, v);
  return y_load(at.y) * (1.0 - lr * decay) - (lr / correction1) * m / (sqrt(v) / root_correction2 + P.f2);
}
