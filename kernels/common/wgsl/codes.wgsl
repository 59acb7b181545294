// Blockwise-quantized weight: operand w (codes, u8), s (f32 scales of blocks), t (codebook). BITS: 4 or 8. The tensor is flattened row-major,
// rows of P.width; codes of 4 bits lie two a byte, the first in the high half. ALIGNED: rows are a multiple of 4 long and codes begin on a word.
#include "common/wgsl/operand.wgsl" (N = w)
#include "common/wgsl/operand.wgsl" (N = s)
#include "common/wgsl/operand.wgsl" (N = t)

#if BITS == 4
var<workgroup> table: array<f32, 16>;
#else
var<workgroup> table: array<f32, 256>;
#endif

// Before the first value: the codebook into workgroup memory.
fn prepare(id: u32) {
#if BITS == 4
  if id < 16u {
    table[id] = t_load(P.t_offset + id);
  }
#else
  for (var i = id; i < 256u; i += $(THREADS)u) {
    table[i] = t_load(P.t_offset + i);
  }
#endif
  workgroupBarrier();
}

fn code_of(e: u32) -> u32 {
#if BITS == 4
  let byte = w_load(P.b_offset + (e >> 1u));
  return select(byte >> 4u, byte & 15u, (e & 1u) == 1u);
#else
  return w_load(P.b_offset + e);
#endif
}

fn value_of(e: u32) -> f32 {
  return table[code_of(e)] * s_load(P.s_offset + (e >> P.shift));
}

// Elements e … e + 3 of one block.
fn four_values(e: u32) -> vec4<f32> {
  let scale = s_load(P.s_offset + (e >> P.shift));
#if BITS == 4
  let half = w_word((P.b_offset >> 2u) + (e >> 3u)) >> ((e & 4u) * 4u);
  return scale * vec4<f32>(table[(half >> 4u) & 15u], table[half & 15u], table[(half >> 12u) & 15u], table[(half >> 8u) & 15u]);
#else
  let word = w_word((P.b_offset + e) >> 2u);
  return scale * vec4<f32>(table[word & 255u], table[(word >> 8u) & 255u], table[(word >> 16u) & 255u], table[word >> 24u]);
#endif
}
