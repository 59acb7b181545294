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
  let a = b & 0x7fffffffu;
  let normal = (a - 0x38000000u + 0xfffu + ((a >> 13u) & 1u)) >> 13u;
  // Between 1/2 and 1 the last place counts 2⁻²⁴, as subnormals of f16 do: the sum rounds to it.
  let small = bitcast<u32>(bitcast<f32>(a) + 0.5) - 0x3f000000u;
  let special = select(0x7c00u, 0x7e00u | ((a >> 13u) & 0x1ffu), a > 0x7f800000u);
  return ((b >> 16u) & 0x8000u) | select(select(normal, small, a < 0x38800000u), special, a >= 0x477ff000u);
}

// The bits of a f32 from the code of a f16. Exact.
fn f16_bits(h: u32) -> u32 {
  let a = (h & 0x7fffu) << 13u;
  let small = bitcast<u32>(f32(h & 0x3ffu) * 5.9604644775390625e-08);
  let rest = a + select(0x38000000u, 0x70000000u, (h & 0x7c00u) == 0x7c00u);
  return ((h & 0x8000u) << 16u) | select(rest, small, (h & 0x7c00u) == 0u);
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

// ln x; NaN where there is none.
fn logarithm(x: f32) -> f32 {
  if x > 0.0 && !is_nan(x) {
    return log2(x) * 0.6931471805599453;
  }
  return select(not_a_number(), -infinity(), x == 0.0);
}
