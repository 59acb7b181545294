// Operand $(N): elements of type $($(N)_TYPE) in words of 32 bits. Indices count elements from the start of the binding.
// Operands that lie on one buffer share its binding: then only the first declares it.
#if $(N)_DECLARE
@group(0) @binding($($(N)_SLOT)) var<storage, $($(N)_ACCESS)> $($(N)_BUFFER): array<$($(N)_ELEMENT)>;
#endif

fn $(N)_word(i: u32) -> u32 {
#if $(N)_ELEMENT == u32
  return $($(N)_BUFFER)[i];
#elif $(N)_ELEMENT == atomic<u32>
  return atomicLoad(&$($(N)_BUFFER)[i]);
#elif $(N)_ELEMENT == vec4<u32>
  return $($(N)_BUFFER)[i >> 2u][i & 3u];
#else
  return $($(N)_BUFFER)[i >> 1u][i & 1u];
#endif
}

// The code of an element, in the low bits.
fn $(N)_bits(i: u32) -> u32 {
#if $(N)_TYPE == f16 || $(N)_TYPE == bf16 || $(N)_TYPE == u16
  return ($(N)_word(i >> 1u) >> ((i & 1u) * 16u)) & 0xffffu;
#elif $(N)_TYPE == u8
  return ($(N)_word(i >> 2u) >> ((i & 3u) * 8u)) & 0xffu;
#else
  return $(N)_word(i);
#endif
}

#if $(N)_TYPE == f32 || $(N)_TYPE == f16 || $(N)_TYPE == bf16
alias $(N)_t = f32;
#elif $(N)_TYPE == i32
alias $(N)_t = i32;
#else
alias $(N)_t = u32;
#endif

fn $(N)_load(i: u32) -> $(N)_t {
#if $(N)_TYPE == f32
  return bitcast<f32>($(N)_word(i));
#elif $(N)_TYPE == f16 && HALF
  return unpack2x16float($(N)_word(i >> 1u))[i & 1u];
#elif $(N)_TYPE == f16
  return bitcast<f32>(f16_bits($(N)_bits(i)));
#elif $(N)_TYPE == bf16
  return bitcast<f32>($(N)_bits(i) << 16u);
#elif $(N)_TYPE == i32
  return bitcast<i32>($(N)_word(i));
#else
  return $(N)_bits(i);
#endif
}

#if $(N)_TYPE == f32 || $(N)_TYPE == f16 || $(N)_TYPE == bf16
// Elements i … i + 3. With vector bindings i is a multiple of 4.
fn $(N)_load4(i: u32) -> vec4<f32> {
#if $(N)_ELEMENT == vec4<u32>
  return bitcast<vec4<f32>>($($(N)_BUFFER)[i >> 2u]);
#elif $(N)_ELEMENT == vec2<u32> && $(N)_TYPE == f16
  return f16_quad($($(N)_BUFFER)[i >> 2u]);
#elif $(N)_ELEMENT == vec2<u32>
  return bf16_quad($($(N)_BUFFER)[i >> 2u]);
#else
  return vec4<f32>($(N)_load(i), $(N)_load(i + 1u), $(N)_load(i + 2u), $(N)_load(i + 3u));
#endif
}
#endif

// The code of a value.
fn $(N)_code(v: $(N)_t) -> u32 {
#if $(N)_TYPE == f32 || $(N)_TYPE == i32
  return bitcast<u32>(v);
#elif $(N)_TYPE == f16 && HALF
  return pack2x16float(vec2<f32>(v, 0.0));
#elif $(N)_TYPE == f16
  return f16_code(bitcast<u32>(v));
#elif $(N)_TYPE == bf16
  return bf16_code(bitcast<u32>(v));
#elif $(N)_TYPE == u16
  return v & 0xffffu;
#elif $(N)_TYPE == u8
  return v & 0xffu;
#else
  return v;
#endif
}

#if $(N)_TYPE == f16 || $(N)_TYPE == bf16
// The codes of two values in a word, v below. HALF: the device's own conversions are right (half-trial.wgsl finds out).
fn $(N)_code2(v: f32, w: f32) -> u32 {
#if $(N)_TYPE == f16 && HALF
  return pack2x16float(vec2<f32>(v, w));
#else
  return $(N)_code(v) | ($(N)_code(w) << 16u);
#endif
}
#endif

#if $(N)_ACCESS == read_write
// Replaces the bits of `mask` in word i. Without atomics the caller must own the word.
fn $(N)_put_word(i: u32, bits: u32, mask: u32) {
#if $(N)_ELEMENT == atomic<u32>
  if mask == 0xffffffffu {
    atomicStore(&$($(N)_BUFFER)[i], bits);
  } else {
    atomicAnd(&$($(N)_BUFFER)[i], ~mask);
    atomicOr(&$($(N)_BUFFER)[i], bits & mask);
  }
#elif $(N)_ELEMENT == u32
  if mask == 0xffffffffu {
    $($(N)_BUFFER)[i] = bits;
  } else {
    $($(N)_BUFFER)[i] = ($($(N)_BUFFER)[i] & ~mask) | (bits & mask);
  }
#elif $(N)_ELEMENT == vec4<u32>
  $($(N)_BUFFER)[i >> 2u][i & 3u] = bits;
#else
  $($(N)_BUFFER)[i >> 1u][i & 1u] = bits;
#endif
}

// Stores one element. Types shorter than a word need atomics, or an owner of the word.
fn $(N)_store(i: u32, v: $(N)_t) {
#if $(N)_TYPE == f16 || $(N)_TYPE == bf16 || $(N)_TYPE == u16
  let shift = (i & 1u) * 16u;
  $(N)_put_word(i >> 1u, $(N)_code(v) << shift, 0xffffu << shift);
#elif $(N)_TYPE == u8
  let shift = (i & 3u) * 8u;
  $(N)_put_word(i >> 2u, $(N)_code(v) << shift, 0xffu << shift);
#else
  $(N)_put_word(i, $(N)_code(v), 0xffffffffu);
#endif
}

#if $(N)_TYPE == f16 || $(N)_TYPE == bf16
// Stores elements i and i + 1; i is even, and the caller owns the word.
fn $(N)_store2(i: u32, v: f32, w: f32) {
  $(N)_put_word(i >> 1u, $(N)_code2(v, w), 0xffffffffu);
}
#endif

#if $(N)_TYPE == f32 || $(N)_TYPE == f16 || $(N)_TYPE == bf16
// Stores elements i … i + 3. With vector bindings i is a multiple of 4; else types shorter than a word need atomics.
fn $(N)_store4(i: u32, v: vec4<f32>) {
#if $(N)_ELEMENT == vec4<u32>
  $($(N)_BUFFER)[i >> 2u] = bitcast<vec4<u32>>(v);
#elif $(N)_ELEMENT == vec2<u32>
  $($(N)_BUFFER)[i >> 2u] = vec2<u32>($(N)_code2(v.x, v.y), $(N)_code2(v.z, v.w));
#else
  $(N)_store(i, v.x);
  $(N)_store(i + 1u, v.y);
  $(N)_store(i + 2u, v.z);
  $(N)_store(i + 3u, v.w);
#endif
}
#endif
#endif
