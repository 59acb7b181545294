// Operand a: x.
#include "common/wgsl/elementwise.wgsl"
#include "common/wgsl/operand.wgsl" (N = a)
#include "common/wgsl/convert.wgsl" (FROM = a)

fn element(at: At) -> y_t {
  return convert(a_load(at.a));
}
