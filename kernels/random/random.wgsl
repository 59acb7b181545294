// u0: site. Operand a: seed u32 [4]. DISTRIBUTION: bits, uniform or normal.
#include "common/wgsl/elementwise.wgsl"
#include "common/wgsl/operand.wgsl" (N = a)
#include "common/wgsl/philox.wgsl"
#include "common/wgsl/trigonometry.wgsl"

fn element(at: At) -> y_t {
  let seed = P.offsets.y;
  let counter = vec4<u32>(at.i >> 2u, P.u0, a_load(seed + 2u), a_load(seed + 3u));
  let words = philox(counter, vec2<u32>(a_load(seed), a_load(seed + 1u)));
#if DISTRIBUTION == bits
  return words[at.i & 3u];
#elif DISTRIBUTION == uniform
  return uniform_of(words[at.i & 3u]);
#else
  let pair = select(words.xy, words.zw, (at.i & 2u) == 2u);
  let u = uniform_of(pair.x) + 5.9604644775390625e-08; // in (0, 1]
  let v = uniform_of(pair.y);
  // The angle as a share of a turn, in [−1/2, 1/2): exact.
  let angle = 6.283185307179586 * (v - select(0.0, 1.0, v >= 0.5));
  let sc = sine_cosine(angle);
  return sqrt(-2.0 * log(u)) * select(sc.y, sc.x, (at.i & 1u) == 1u);
#endif
}
