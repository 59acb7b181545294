// Operand a: table (strides of a row), b: ids. Rows from u0 up to u1 are looked up here, u2 elements apart; other ids give 0, or, in a
// later PASS over a table larger than a binding, leave y as it is. Without a change of dtype elements move as codes.
#include "common/wgsl/elementwise.wgsl"
#include "common/wgsl/operand.wgsl" (N = a)
#include "common/wgsl/operand.wgsl" (N = b)

fn element(at: At) -> y_t {
  let id = u32(b_load(at.b));
  if id < P.u0 || id >= P.u1 {
#if PASS
    return y_load(at.y);
#else
    return y_t(0);
#endif
  }
  return convert(a_load(at.a + (id - P.u0) * P.u2));
}
#include "common/wgsl/convert.wgsl" (FROM = a)
