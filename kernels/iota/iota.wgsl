// y = start + step · ((i / u0) % u1). WHOLE: start u2 and step u3 are integers; else start f0 and step f1.
#include "common/wgsl/elementwise.wgsl"

fn element(at: At) -> y_t {
  let k = (at.i / P.u0) % P.u1;
#if WHOLE
  let v = P.u2 + P.u3 * k;
#if y_TYPE == f32 || y_TYPE == f16 || y_TYPE == bf16
  return f32(bitcast<i32>(v));
#elif y_TYPE == i32
  return bitcast<i32>(v);
#else
  return v;
#endif
#else
  let v = P.f0 + P.f1 * f32(k);
#if y_TYPE == f32 || y_TYPE == f16 || y_TYPE == bf16
  return v;
#elif y_TYPE == i32
  return i32(v);
#else
  return bitcast<u32>(i32(v));
#endif
#endif
}
