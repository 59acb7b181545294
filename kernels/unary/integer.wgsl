// The rows of table.ts that are defined on integers: computed without a limit, truncated, saturated. OP is the row's name.
// affine: p (f0) and q (f1); WHOLE: both are integers, u0 and u1.
#include "common/wgsl/elementwise.wgsl"
#include "common/wgsl/operand.wgsl" (N = a)

#if y_TYPE == i32
const lowest = i32(-0x7fffffff - 1);
const highest = 0x7fffffff;
const root = 46340;
#elif y_TYPE == u32
const lowest = 0u;
const highest = 0xffffffffu;
const root = 65535u;
#else
const lowest = 0u;
const highest = 255u;
const root = 15u;
#endif

fn element(at: At) -> y_t {
  let x = a_load(at.a);
#if OP == affine
  let near = P.f0 * f32(x) + P.f1;
  if near <= f32(lowest) {
    return lowest;
  }
  if near >= f32(highest) {
    return highest;
  }
#if WHOLE
  return y_t(P.u0) * x + y_t(P.u1);
#else
  return y_t(near);
#endif
#elif OP == square
  if x > root {
    return highest;
  }
#if y_TYPE == i32
  if x < -root {
    return highest;
  }
#endif
  return x * x;
#elif OP == neg
#if y_TYPE == i32
  return select(-x, highest, x == lowest);
#else
  return 0u;
#endif
#elif OP == abs
#if y_TYPE == i32
  return select(abs(x), highest, x == lowest);
#else
  return x;
#endif
#elif OP == sign
#if y_TYPE == i32
  return sign(x);
#else
  return min(x, 1u);
#endif
#else
  return x; // floor
#endif
}
