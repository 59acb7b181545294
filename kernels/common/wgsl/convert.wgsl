// `convert`: a value of operand $(FROM) in the type of y, as op `cast` does it.
fn convert(x: $(FROM)_t) -> y_t {
#if $(FROM)_TYPE == f32 || $(FROM)_TYPE == f16 || $(FROM)_TYPE == bf16
#if y_TYPE == f32 || y_TYPE == f16 || y_TYPE == bf16
  return x;
#elif y_TYPE == i32
  if is_nan(x) || x >= 2147483648.0 || x < -2147483648.0 {
    return select(select(i32(-0x7fffffff - 1), 0x7fffffff, x > 0.0), 0, is_nan(x));
  }
  return i32(x);
#elif y_TYPE == u32
  if is_nan(x) || x >= 4294967296.0 || x < 1.0 {
    return select(0u, 0xffffffffu, x > 1.0 && !is_nan(x));
  }
  return u32(x);
#else
  return u32(select(clamp(x, 0.0, 255.0), 0.0, is_nan(x)));
#endif
#elif y_TYPE == f32 || y_TYPE == f16 || y_TYPE == bf16
  // By halves, whose conversions are exact: the sum is then the only rounding, and to nearest.
#if $(FROM)_TYPE == i32
  return f32(x >> 16u) * 65536.0 + f32(x & 0xffff);
#else
  return f32(x >> 16u) * 65536.0 + f32(x & 0xffffu);
#endif
#elif y_TYPE == i32
  return bitcast<i32>(u32(x));
#else
  return u32(x);
#endif
}
