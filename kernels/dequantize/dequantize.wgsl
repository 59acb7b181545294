// y contiguous and on vectors: an invocation takes a word of codes, eight elements of 4 bits or four of 8, at four places of its
// workgroup's range. Of each of PARTS weights, one after another in y: w: codes (on words), s: absmax (f32, or u8 with NESTED: then nested, book,
// offset), t: codebook.
#include "common/wgsl/numbers.wgsl"
#include "common/wgsl/operand.wgsl" (N = y)
#for p in 0..$(PARTS)
#include "common/wgsl/operand.wgsl" (N = w$(p))
#include "common/wgsl/operand.wgsl" (N = s$(p))
#include "common/wgsl/operand.wgsl" (N = t$(p))
#if NESTED
#include "common/wgsl/operand.wgsl" (N = nested$(p))
#include "common/wgsl/operand.wgsl" (N = book$(p))
#include "common/wgsl/operand.wgsl" (N = offset$(p))
#endif
#endfor

struct Part {
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
  unused_1: u32,
  unused_2: u32,
  unused_3: u32,
}
struct Params {
  parts: array<Part, 3>,
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

#for p in 0..$(PARTS)
fn scale_of$(p)(block: u32) -> f32 {
#if NESTED
  let product = book$(p)_load(P.parts[$(p)].book_offset + s$(p)_load(P.parts[$(p)].s_offset + block)) * nested$(p)_load(P.parts[$(p)].nested_offset + (block >> 8u));
  // The bits pass through a word that compilers do not know, so that product and sum are not fused.
  return bitcast<f32>(bitcast<u32>(product) ^ P.zero) + offset$(p)_load(P.parts[$(p)].offset_offset);
#else
  return s$(p)_load(P.parts[$(p)].s_offset + block);
#endif
}
#endfor

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
#for p in 0..$(PARTS)
  if group.z == $(p)u {
    let part = P.parts[$(p)];
#if BITS == 4
    if lane < 16u {
      table[lane] = t$(p)_load(part.t_offset + lane);
    }
#else
    table[lane] = t$(p)_load(part.t_offset + lane);
#endif
  }
#endfor
  workgroupBarrier();
  let start = group_number(group, groups) * 1024u + lane;
#for p in 0..$(PARTS)
  if group.z == $(p)u {
    let part = P.parts[$(p)];
#for r in 0..4
    {
      let i = start + $(r)u * 256u;
      if i < part.words {
        let word = w$(p)_word((part.w_offset >> 2u) + i);
        let scale = scale_of$(p)((i * elements) >> part.shift);
        let first = part.y_offset + i * elements;
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
#endfor
}
