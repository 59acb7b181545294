// One call of `element` for each element of y; its result is stored. PACK: elements of y in a word when an invocation makes whole words
// (rows of y are then contiguous), else 1. FLAT: there is one axis. EACH: units that an invocation makes, 256 apart.
#include "common/wgsl/numbers.wgsl"
#include "common/wgsl/strided.wgsl"
#include "common/wgsl/operand.wgsl" (N = y)

fn locate(i: u32, column: u32, row: u32) -> At {
#if FLAT
  return locate_axes(P.start + i, vec4<u32>(0u, 0u, 0u, column));
#else
  let z = row / P.shape.z;
  return locate_axes(P.start + i, vec4<u32>(z / P.shape.y, z % P.shape.y, row % P.shape.z, column));
#endif
}

// One unit of work: an element, or a word of elements.
fn make(unit: u32) {
  if unit >= P.units {
    return;
  }
#if PACK == 1
#if FLAT
  let at = locate(unit, unit, 0u);
#else
  let at = locate(unit, unit % P.shape.w, unit / P.shape.w);
#endif
  y_store(at.y, element(at));
#else
#if FLAT
  let row = 0u;
  let word = unit;
#else
  let row = unit / P.words;
  let word = unit % P.words;
#endif
  let base = locate(0u, 0u, row).y;
  var bits = 0u;
  var mask = 0u;
  for (var lane_of_word = 0u; lane_of_word < $(PACK)u; lane_of_word++) {
    let column = word * $(PACK)u + lane_of_word - P.phase; // wraps below the row, and is then past its end
    if column < P.shape.w {
      let at = locate(row * P.shape.w + column, column, row);
      let shift = lane_of_word * (32u / $(PACK)u);
      bits |= y_code(element(at)) << shift;
      mask |= (0xffffffffu >> (32u - 32u / $(PACK)u)) << shift;
    }
  }
  y_put_word((base - P.phase) / $(PACK)u + word, bits, mask);
#endif
}

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let start = group_number(group, groups) * (256u * $(EACH)u) + lane;
#for r in 0..$(EACH)
  make(start + $(r)u * 256u);
#endfor
}
