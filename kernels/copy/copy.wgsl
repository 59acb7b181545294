// Operand a: x. Elements move as codes.
#include "common/wgsl/elementwise.wgsl"
#include "common/wgsl/operand.wgsl" (N = a)

fn element(at: At) -> y_t {
  return a_load(at.a);
}
