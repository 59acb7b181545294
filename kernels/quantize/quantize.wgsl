// A workgroup of 64 for each block: its absmax, then its codes, as bitsandbytes rounds them (reference.ts). TYPE: nf4, fp4 or int8.
// Operand x (contiguous floats), t: codebook (int8), offset (f32 [1], OFFSET), codes (u8; WORDS: they begin on a word), absmax (f32).
#include "common/wgsl/numbers.wgsl"
#include "common/wgsl/operand.wgsl" (N = x)
#include "common/wgsl/operand.wgsl" (N = codes)
#include "common/wgsl/operand.wgsl" (N = absmax)
#if TYPE == int8
#include "common/wgsl/operand.wgsl" (N = t)
#endif
#if OFFSET
#include "common/wgsl/operand.wgsl" (N = offset)
#endif

struct Params {
  count: u32,
  block: u32,
  blocks: u32,
  x_offset: u32,
  codes_offset: u32,
  absmax_offset: u32,
  absmax_stride: u32,
  t_offset: u32,
  offset_offset: u32,
  zero: u32,
}
@group(0) @binding(0) var<uniform> P: Params;

var<workgroup> meeting: array<u32, 64>;
#if TYPE == int8
var<workgroup> middles: array<f32, 255>;
#endif

// The bits pass through a word that compilers do not know, so that steps are not fused.
fn rounded(x: f32) -> f32 {
  return bitcast<f32>(bitcast<u32>(x) ^ P.zero);
}

// Significand (24 bits, the first is 1) and exponent of the bits of a positive number: significand · 2^exponent.
fn parts(b: u32) -> vec2<i32> {
  let fraction = b & 0x7fffffu;
  if b >= 0x800000u {
    return vec2<i32>(i32(fraction | 0x800000u), i32(b >> 23u) - 150);
  }
  let up = 23u - firstLeadingBit(fraction);
  return vec2<i32>(i32(fraction << up), -149 - i32(up));
}

// Bits of a / b rounded to nearest, ties to even, from the bits of positive finite numbers. Subnormal quotients become 0.
fn quotient(a: u32, b: u32) -> u32 {
  if a == 0u {
    return 0u;
  }
  let pa = parts(a);
  let pb = parts(b);
  var rest = u32(pa.x);
  let divisor = u32(pb.x);
  var exponent = pa.y - pb.y;
  if rest < divisor {
    rest <<= 1u;
    exponent -= 1;
  }
  var q = 0u;
  for (var i = 0; i < 25; i++) { // 24 bits and one to round by
    q <<= 1u;
    if rest >= divisor {
      rest -= divisor;
      q |= 1u;
    }
    rest <<= 1u;
  }
  let up = (q & 1u) == 1u && (rest != 0u || (q & 2u) == 2u);
  let significand = (q >> 1u) + select(0u, 1u, up);
  let field = exponent + 127;
  if field <= 0 {
    return 0u;
  }
  // A carry out of the significand goes on into the exponent.
  return min((u32(field) << 23u) + (significand - 0x800000u), 0x7f800000u);
}

// Bits of element i, less the offset.
fn element_bits(i: u32) -> u32 {
#if OFFSET
  return bitcast<u32>(x_load(P.x_offset + i) - offset_load(P.offset_offset));
#elif x_TYPE == f32
  return x_bits(P.x_offset + i);
#else
  return bitcast<u32>(x_load(P.x_offset + i));
#endif
}

// v · 2⁶⁴ of the bits of a small number, subnormal or not.
fn raised(b: u32) -> f32 {
  let magnitude = b & 0x7fffffffu;
  let up = select(bitcast<f32>(magnitude + (64u << 23u)), f32(magnitude) * 2.5849394142282115e-26, magnitude < 0x800000u);
  return select(up, -up, (b & 0x80000000u) != 0u);
}

#if TYPE == int8
fn code_of(x: f32) -> u32 {
  let bin = trunc(rounded(rounded((x + 1.0) * 0.5) * 65535.0) + 0.5);
  let value = rounded(bitcast<f32>(quotient(bitcast<u32>(2.0 * bin), bitcast<u32>(65535.0)))) - 1.0;
  // How many of the 255 midpoints are smaller.
  var low = 0u;
  var high = 255u;
  while low < high {
    let middle = (low + high) / 2u;
    if middles[middle] < value {
      low = middle + 1u;
    } else {
      high = middle;
    }
  }
  return low;
}
#else
// BOUND_i ascend; the code is CODE_n with n of them smaller than x.
fn code_of(x: f32) -> u32 {
  var code = $(CODE_0)u;
#for i in 0..15
  code = select(code, $(CODE_AFTER_$(i))u, x > $(BOUND_$(i)));
#endfor
  return code;
}
#endif

// The code of element i of the block with this divisor (bits) and its inverse.
fn quantized(i: u32, divisor: u32, inverse: u32, whole: bool) -> u32 {
  let b = element_bits(i);
  let magnitude = b & 0x7fffffffu;
  let negative = (b & 0x80000000u) != 0u;
#if TYPE == int8
  if divisor == 0u {
    return 0u;
  }
  if inverse == 0x7f800000u { // 1/absmax overflows: every product is infinite, or NaN
    return select(code_of(select(1.0, -1.0, negative)), 0u, magnitude == 0u);
  }
#else
  if !whole {
    let q = bitcast<f32>(quotient(magnitude, divisor));
    return code_of(min(select(q, -q, negative), 1.0));
  }
#endif
  if divisor < 0x0d800000u { // below 2⁻¹⁰⁰: scaled by a power of two, which rounds nothing
    return code_of(clamp(raised(b) * (bitcast<f32>(inverse) * 5.421010862427522e-20), -1.0, 1.0));
  }
  return code_of(clamp(bitcast<f32>(b) * bitcast<f32>(inverse), -1.0, 1.0));
}

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let block = group_number(group, groups);
  if block >= P.blocks {
    return;
  }
  let start = block * P.block;
  let count = min(P.block, P.count - start);
#if TYPE == int8
  for (var i = lane; i < 255u; i += 64u) {
    middles[i] = 0.5 * (t_load(P.t_offset + i) + t_load(P.t_offset + i + 1u));
  }
#endif
  // Magnitudes compare as their bits do.
  var largest = 0u;
  for (var i = lane; i < count; i += 64u) {
    largest = max(largest, element_bits(start + i) & 0x7fffffffu);
  }
  meeting[lane] = largest;
  for (var half = 32u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if lane < half {
      meeting[lane] = max(meeting[lane], meeting[lane + half]);
    }
  }
  workgroupBarrier();
  let found = meeting[0];
  let whole = count == P.block;
#if TYPE == int8
  let divisor = found;
  let stored = found;
#else
  let divisor = max(found, 0x006ce3eeu); // 1e-38
  let stored = select(divisor, found, whole);
#endif
  if lane == 0u {
    absmax_put_word(P.absmax_offset + block * P.absmax_stride, stored, 0xffffffffu);
  }
  var inverse = 0x7f800000u;
  if divisor != 0u {
    inverse = quotient(0x3f800000u, divisor);
  }
  // A word of codes at a time.
#if TYPE == int8
  const elements = 4u;
#else
  const elements = 8u;
#endif
  for (var i = lane * elements; i < count; i += 64u * elements) {
    var word = 0u;
    var mask = 0u;
    for (var j = 0u; j < elements; j++) {
      if i + j < count {
        let code = quantized(start + i + j, divisor, inverse, whole);
#if TYPE == int8
        word |= code << (j * 8u);
        mask |= 0xffu << (j * 8u);
#else
        word |= code << ((j / 2u) * 8u + select(4u, 0u, (j & 1u) == 1u));
        mask |= 0xffu << ((j / 2u) * 8u);
      } else if (i + j == count) && (j & 1u) == 1u {
        word |= code_of(0.0) << ((j / 2u) * 8u); // the odd end
#endif
      }
    }
    let byte = P.codes_offset + (start + i) / (elements / 4u);
#if WORDS
    codes_put_word(byte >> 2u, word, mask);
#else
    for (var j = 0u; j < 4u; j++) {
      if ((mask >> (j * 8u)) & 1u) == 1u {
        codes_store(byte + j, word >> (j * 8u));
      }
    }
#endif
  }
}
