// Operands a and b. FORMULA is a row of table.ts over values a and b, KIND its kind. Floats compute in f32, integers in 32 bits; bits of
// i32 as u32. Comparisons are false with NaN, except `ne`.
#include "common/wgsl/elementwise.wgsl"
#include "common/wgsl/operand.wgsl" (N = a)
#include "common/wgsl/operand.wgsl" (N = b)

#if WHOLE
// aᵇ by squaring; the low bits. Negative exponents give 0 unless a is 1 or −1.
fn pow(a: a_t, b: a_t) -> a_t {
#if a_TYPE == i32
  if b < 0 {
    return select(select(0, select(-1, 1, (b & 1) == 0), a == -1), 1, a == 1);
  }
#endif
  var result = a_t(1);
  var base = a;
  for (var left = u32(b); left > 0u; left >>= 1u) {
    if (left & 1u) == 1u {
      result *= base;
    }
    base *= base;
  }
  return result;
}
#else
// aᵇ = 2^(b · log₂ a), with log₂ a as an integer and a rest, so that large powers keep their digits.
fn pow(a: f32, b: f32) -> f32 {
  if b == 0.0 {
    return 1.0;
  }
  if is_nan(a) || is_nan(b) {
    return not_a_number();
  }
  if b == 1.0 {
    return a;
  }
  if a == 0.0 {
    return select(0.0, infinity(), b < 0.0);
  }
  if a < 0.0 {
    let whole = floor(b) == b;
    if !whole {
      return not_a_number();
    }
    let magnitude = power(-a, b);
    return select(magnitude, -magnitude, abs(b) < 16777216.0 && (i32(b) & 1) == 1);
  }
  return power(a, b);
}

fn power(a: f32, b: f32) -> f32 {
  let parts = frexp(a); // a = fract · 2^exp, fract in [1/2, 1)
  let high = b * f32(parts.exp);
  let low = b * log2(parts.fract);
  let whole = round(high);
  let rest = (high - whole) + low;
  let more = floor(rest);
  return ldexp_safe(exp2(rest - more), whole + more);
}

fn ldexp_safe(x: f32, e: f32) -> f32 {
  if e > 127.0 {
    return select(x * exp2(min(e - 127.0, 127.0)) * 1.7014118346046923e38, infinity(), e > 254.0);
  }
  if e < -126.0 {
    return select(x * exp2(max(e + 126.0, -126.0)) * 1.1754943508222875e-38, 0.0, e < -252.0);
  }
  return x * exp2(e);
}
#endif

#if OP == div && !WHOLE
// a / b. The reciprocal of a divisor past 2¹²⁶ is subnormal, and may be flushed to 0: both are made smaller then.
fn quotient(a: f32, b: f32) -> f32 {
  let scale = select(1.0, 0.25, abs(b) > 4.2535295865117308e37);
  return (a * scale) / (b * scale);
}
#endif

fn element(at: At) -> y_t {
#if KIND == bits
  let a = u32(a_load(at.a));
  let b = u32(b_load(at.b));
  return y_t($(FORMULA));
#else
  let a = a_load(at.a);
  let b = b_load(at.b);
#if KIND == compare
#if WHOLE
  return u32($(FORMULA));
#else
  return select(u32($(FORMULA)), $(UNORDERED)u, is_nan(a) || is_nan(b));
#endif
#elif WHOLE && OP == div
  if b == 0 {
    return 0;
  }
  return a / b;
#elif WHOLE || OP == pow
  return $(FORMULA);
#else
  let result = $(FORMULA);
  return select(result, not_a_number(), is_nan(a) || is_nan(b));
#endif
#endif
}
