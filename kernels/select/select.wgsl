// Operands a and b: the two choices, c: cond. Elements move as codes.
#include "common/wgsl/elementwise.wgsl"
#include "common/wgsl/operand.wgsl" (N = a)
#include "common/wgsl/operand.wgsl" (N = b)
#include "common/wgsl/operand.wgsl" (N = c)

fn element(at: At) -> y_t {
  if c_load(at.c) != 0u {
    return a_load(at.a);
  }
  return b_load(at.b);
}
