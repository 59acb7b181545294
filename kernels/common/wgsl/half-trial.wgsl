// How many of the device's conversions between f32 and f16 are wrong, added to y[0]: every code there and back, and the numbers on the
// middle between a code and the next and to both sides of it, whose rounding must be to nearest, ties to even. An invocation a code.
#include "common/wgsl/numbers.wgsl"
#include "common/wgsl/operand.wgsl" (N = y)

fn packs_wrongly(bits: u32) -> u32 {
  let x = bitcast<f32>(bits);
  let word = pack2x16float(vec2<f32>(x, -x));
  let code = f16_code(bits);
  return select(0u, 1u, word != (code | ((code ^ 0x8000u) << 16u)));
}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let code = id.x;
  let bits = f16_bits(code);
  let got = bitcast<vec2<u32>>(unpack2x16float(code | ((code ^ 0x8000u) << 16u)));
  var wrong = 0u;
  if is_nan(bitcast<f32>(bits)) {
    // Any NaN will do.
    let back = pack2x16float(vec2<f32>(bitcast<f32>(bits), 0.0));
    wrong = select(1u, 0u, (got.x & 0x7fffffffu) > 0x7f800000u && (back & 0x7fffu) > 0x7c00u);
  } else {
    wrong = select(0u, 1u, got.x != bits || got.y != (bits ^ 0x80000000u)) + packs_wrongly(bits);
    if (code & 0x7fffu) < 0x7c00u {
      // Beyond the largest the next code would be 65536.
      let next = select(f16_bits(code + 1u), 0x47800000u | (bits & 0x80000000u), (code & 0x7fffu) == 0x7bffu);
      let middle = bitcast<u32>(0.5 * (bitcast<f32>(bits) + bitcast<f32>(next)));
      wrong += packs_wrongly(middle) + packs_wrongly(middle - 1u) + packs_wrongly(middle + 1u);
    }
  }
  if wrong > 0u {
    atomicAdd(&$(y_BUFFER)[0], wrong);
  }
}
