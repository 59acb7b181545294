// Numbers by their bits. Compilers may assume that there is no NaN and no infinity, and may flush subnormals: where that matters,
// kernels test and move bits.

var<private> infinity_bits: u32 = 0x7f800000u;
var<private> nan_bits: u32 = 0x7fc00000u;

// +infinity. A constant expression may not be infinite, so the bits go through a variable.
fn infinity() -> f32 {
  return bitcast<f32>(infinity_bits);
}

fn not_a_number() -> f32 {
  return bitcast<f32>(nan_bits);
}

fn is_nan(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

// The code of a f16 from the bits of a f32: to nearest, ties to even, overflow to infinity, subnormals kept.
fn f16_code(b: u32) -> u32 {
  let sign = (b >> 16u) & 0x8000u;
  let a = b & 0x7fffffffu;
  if a > 0x7f800000u {
    return sign | 0x7e00u | ((a >> 13u) & 0x1ffu);
  }
  if a >= 0x477ff000u {
    return sign | 0x7c00u;
  }
  if a >= 0x38800000u {
    return sign | ((a - 0x38000000u + 0xfffu + ((a >> 13u) & 1u)) >> 13u);
  }
  if a <= 0x33000000u {
    return sign;
  }
  let shift = 126u - (a >> 23u);
  let significand = (a & 0x7fffffu) | 0x800000u;
  let down = significand >> shift;
  let rest = significand & ((1u << shift) - 1u);
  let half = 1u << (shift - 1u);
  return sign | (down + select(0u, 1u, rest > half || (rest == half && (down & 1u) == 1u)));
}

// The bits of a f32 from the code of a f16. Exact.
fn f16_bits(h: u32) -> u32 {
  let sign = (h & 0x8000u) << 16u;
  let exponent = (h >> 10u) & 31u;
  let fraction = h & 0x3ffu;
  if exponent == 31u {
    return sign | 0x7f800000u | (fraction << 13u);
  }
  if exponent != 0u {
    return sign | ((exponent + 112u) << 23u) | (fraction << 13u);
  }
  if fraction == 0u {
    return sign;
  }
  let lead = firstLeadingBit(fraction);
  return sign | ((lead + 103u) << 23u) | ((fraction << (23u - lead)) & 0x7fffffu);
}

fn bf16_code(b: u32) -> u32 {
  let rounded = (b + 0x7fffu + ((b >> 16u) & 1u)) >> 16u;
  return select(rounded, (b >> 16u) | 0x40u, (b & 0x7fffffffu) > 0x7f800000u);
}

// Four f16 codes in two words.
fn f16_quad(w: vec2<u32>) -> vec4<f32> {
  return vec4<f32>(unpack2x16float(w.x), unpack2x16float(w.y));
}

fn bf16_quad(w: vec2<u32>) -> vec4<f32> {
  return bitcast<vec4<f32>>(vec4<u32>(w.x << 16u, w.x & 0xffff0000u, w.y << 16u, w.y & 0xffff0000u));
}

// Number of this workgroup where a row of them is folded in two dimensions.
fn group_number(group: vec3<u32>, groups: vec3<u32>) -> u32 {
  return group.y * groups.x + group.x;
}

// x · 2⁻ᵉ to nearest, ties to even, also where the result is subnormal and arithmetic would flush it. x is not subnormal.
fn shrink(x: f32, e: u32) -> f32 {
  let b = bitcast<u32>(x);
  let exponent = (b >> 23u) & 255u;
  if exponent == 0u || exponent == 255u {
    return x;
  }
  if exponent > e {
    return bitcast<f32>(b - (e << 23u));
  }
  let sign = b & 0x80000000u;
  let shift = e - exponent + 1u;
  if shift > 24u {
    return bitcast<f32>(sign);
  }
  let significand = (b & 0x7fffffu) | 0x800000u;
  let down = significand >> shift;
  let rest = significand & ((1u << shift) - 1u);
  let half = 1u << (shift - 1u);
  return bitcast<f32>(sign | (down + select(0u, 1u, rest > half || (rest == half && (down & 1u) == 1u))));
}

// a / b, also where the quotient is subnormal.
fn divide(a: f32, b: f32) -> f32 {
  let q = a / b;
  if (bitcast<u32>(q) & 0x7fffffffu) < 0x800000u && a != 0.0 && abs(a) < 4.0 {
    return shrink((a * 4294967296.0) / (b * 2.3283064365386963e-10), 64u);
  }
  return q;
}

// ln x; NaN where there is none.
fn logarithm(x: f32) -> f32 {
  if x > 0.0 && !is_nan(x) {
    return log2(x) * 0.6931471805599453;
  }
  return select(not_a_number(), -infinity(), x == 0.0);
}

// x / (1 + e⁻ˣ) · factor, also where the quotient is subnormal.
fn silu_times(x: f32, factor: f32) -> f32 {
  if x < -88.0 {
    return shrink(x * exp(x + 44.3614195558365) * factor, 64u);
  }
  return x / (1.0 + exp(-x)) * factor;
}
