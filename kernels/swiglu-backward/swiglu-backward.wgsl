// Operand y: dx, a: dy, b: x; gate and up lie u0 columns apart in x and in dx.
#include "common/wgsl/pairs.wgsl"
#include "common/wgsl/operand.wgsl" (N = a)
#include "common/wgsl/operand.wgsl" (N = b)

fn pair(at: At, axes: vec4<u32>) -> vec2<f32> {
  let gate = b_load(at.b);
  let up = b_load(at.b + P.u0 * P.b_strides.w);
  let g = a_load(at.a);
  let s = 1.0 / (1.0 + exp(-gate));
  return vec2<f32>(g * up * s * (1.0 + gate * (1.0 - s)), g * gate * s);
}
