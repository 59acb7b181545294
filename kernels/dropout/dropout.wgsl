// Operand a: x, b: seed. u0: site, f0: p, f1: 1/(1 − p).
#include "common/wgsl/elementwise.wgsl"
#include "common/wgsl/operand.wgsl" (N = a)
#include "common/wgsl/operand.wgsl" (N = b)
#include "common/wgsl/philox.wgsl"

fn element(at: At) -> y_t {
  let seed = P.offsets.z;
  let counter = vec4<u32>(at.i >> 2u, P.u0, b_load(seed + 2u), b_load(seed + 3u));
  let words = philox(counter, vec2<u32>(b_load(seed), b_load(seed + 1u)));
  let x = a_load(at.a);
  return select(0.0, x * P.f1, uniform_of(words[at.i & 3u]) >= P.f0);
}
