// Operand a: x; b: positions, c: a row of cos and d: of sin, u1 and u2 apart, u3 the last. f0: 1, or −1 for the inverse. Columns j and
// j + u0.
#include "common/wgsl/pairs.wgsl"
#include "common/wgsl/operand.wgsl" (N = a)
#include "common/wgsl/operand.wgsl" (N = b)
#include "common/wgsl/operand.wgsl" (N = c)
#include "common/wgsl/operand.wgsl" (N = d)

fn pair(at: At, axes: vec4<u32>) -> vec2<f32> {
  let position = min(u32(b_load(at.b)), P.u3);
  let cosine = c_load(at.c + position * P.u1);
  let sine = d_load(at.d + position * P.u2) * P.f0;
  let x = a_load(at.a);
  let far = a_load(at.a + P.u0 * P.a_strides.w);
  return vec2<f32>(x * cosine - far * sine, far * cosine + x * sine);
}
