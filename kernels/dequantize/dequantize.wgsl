// y contiguous and on vectors: an invocation takes a word of codes, eight elements of 4 bits or four of 8, at four places of its
// workgroup's range. Operand w: codes (on words), s: absmax (f32, or u8 with NESTED: then nested, book, offset), t: codebook.
#include "common/wgsl/numbers.wgsl"
#include "common/wgsl/operand.wgsl" (N = y)
#include "common/wgsl/operand.wgsl" (N = w)
#include "common/wgsl/operand.wgsl" (N = s)
#include "common/wgsl/operand.wgsl" (N = t)
#if NESTED
#include "common/wgsl/operand.wgsl" (N = nested)
#include "common/wgsl/operand.wgsl" (N = book)
#include "common/wgsl/operand.wgsl" (N = offset)
#endif

struct Params {
  words: u32,
  y_offset: u32,
  w_offset: u32,
  s_offset: u32,
  t_offset: u32,
  nested_offset: u32,
  book_offset: u32,
  offset_offset: u32,
  // log2 of the block size.
  shift: u32,
  zero: u32,
}
@group(0) @binding(0) var<uniform> P: Params;

#if BITS == 4
const elements = 8u;
var<workgroup> table: array<f32, 16>;
#else
const elements = 4u;
var<workgroup> table: array<f32, 256>;
#endif

fn scale_of(block: u32) -> f32 {
#if NESTED
  let product = book_load(P.book_offset + s_load(P.s_offset + block)) * nested_load(P.nested_offset + (block >> 8u));
  // The bits pass through a word that compilers do not know, so that product and sum are not fused.
  return bitcast<f32>(bitcast<u32>(product) ^ P.zero) + offset_load(P.offset_offset);
#else
  return s_load(P.s_offset + block);
#endif
}

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
#if BITS == 4
  if lane < 16u {
    table[lane] = t_load(P.t_offset + lane);
  }
#else
  table[lane] = t_load(P.t_offset + lane);
#endif
  workgroupBarrier();
  let start = group_number(group, groups) * 1024u + lane;
#for r in 0..4
  {
    let i = start + $(r)u * 256u;
    if i < P.words {
      let word = w_word((P.w_offset >> 2u) + i);
      let scale = scale_of((i * elements) >> P.shift);
      let first = P.y_offset + i * elements;
#if BITS == 4
      let low = scale * vec4<f32>(table[(word >> 4u) & 15u], table[word & 15u], table[(word >> 12u) & 15u], table[(word >> 8u) & 15u]);
      let high = scale * vec4<f32>(table[(word >> 20u) & 15u], table[(word >> 16u) & 15u], table[word >> 28u], table[(word >> 24u) & 15u]);
#if WIDE
      // Eight elements of 16 bits in one vector.
      y_data[first >> 3u] = vec4<u32>(y_code2(low.x, low.y), y_code2(low.z, low.w), y_code2(high.x, high.y), y_code2(high.z, high.w));
#else
      y_store4(first, low);
      y_store4(first + 4u, high);
#endif
#else
      y_store4(first, scale * vec4<f32>(table[word & 255u], table[(word >> 8u) & 255u], table[(word >> 16u) & 255u], table[word >> 24u]));
#endif
    }
  }
#endfor
}
