// Operand a: gate, a window on x; up lies u0 elements further.
#include "common/wgsl/elementwise.wgsl"
#include "common/wgsl/operand.wgsl" (N = a)

fn element(at: At) -> y_t {
  let gate = a_load(at.a);
  let up = a_load(at.a + P.u0);
  return gate / (1.0 + exp(-gate)) * up;
}
