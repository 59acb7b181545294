// y = f0 · Σ of u0 partial sums, u1 apart (operand a) + f1 · c (operand b, ADDS), in order.
#include "common/wgsl/elementwise.wgsl"
#include "common/wgsl/operand.wgsl" (N = a)
#if ADDS
#include "common/wgsl/operand.wgsl" (N = b)
#endif

fn element(at: At) -> y_t {
  var sum = 0.0;
  for (var s = 0u; s < P.u0; s++) {
    sum += a_load(at.a + s * P.u1);
  }
#if ADDS
  return P.f0 * sum + P.f1 * b_load(at.b);
#else
  return P.f0 * sum;
#endif
}
