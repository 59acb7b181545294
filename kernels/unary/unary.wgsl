// Operand a: x. FORMULA is a row of table.ts, over x and the parameters p (f0) and q (f1). Floats only.
#include "common/wgsl/elementwise.wgsl"
#include "common/wgsl/operand.wgsl" (N = a)
#include "common/wgsl/trigonometry.wgsl"

// These take the place of the built-in functions, whose error is up to 2⁻¹¹.
fn sin(x: f32) -> f32 {
  return sine_cosine(x).x;
}

fn cos(x: f32) -> f32 {
  return sine_cosine(x).y;
}

fn log(x: f32) -> f32 {
  return logarithm(x);
}

fn element(at: At) -> y_t {
  let x = a_load(at.a);
  let p = P.f0;
  let q = P.f1;
  let result = $(FORMULA);
  return select(result, x, is_nan(x));
}
