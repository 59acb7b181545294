// Scales of the blocks of a double-quantized tensor: y = nestedCodebook[absmax] · nestedAbsmax[⌊i/256⌋] + offset, each step rounded.
// Operand a: absmax (u8); nested (f32) at u0, book at u1, offset at u2. u3 is 0.
#include "common/wgsl/elementwise.wgsl"
#include "common/wgsl/operand.wgsl" (N = a)
#include "common/wgsl/operand.wgsl" (N = nested)
#include "common/wgsl/operand.wgsl" (N = book)
#include "common/wgsl/operand.wgsl" (N = offset)

fn element(at: At) -> y_t {
  let product = book_load(P.u1 + a_load(at.a)) * nested_load(P.u0 + (at.i >> 8u));
  // The bits pass through a word that compilers do not know, so that product and sum are not fused.
  return bitcast<f32>(bitcast<u32>(product) ^ P.u3) + offset_load(P.u2);
}
