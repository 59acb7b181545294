// Kernels whose results go to columns j and j + u0 of y: one invocation makes both, so that they may lie over what they are made from.
// The walked shape has the columns j. PACK: columns that an invocation takes (2: whole words).
#include "common/wgsl/numbers.wgsl"
#include "common/wgsl/strided.wgsl"
#include "common/wgsl/operand.wgsl" (N = y)

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let unit = group_number(group, groups) * 256u + lane;
  if unit >= P.units {
    return;
  }
  let row = unit / P.words;
  let column = (unit % P.words) * $(PACK)u;
  let z = row / P.shape.z;
  let axes = vec4<u32>(z / P.shape.y, z % P.shape.y, row % P.shape.z, column);
  let at = locate_axes(row, axes);
  let first = pair(at, axes);
#if PACK == 2
  let axes2 = axes + vec4<u32>(0u, 0u, 0u, 1u);
  let second = pair(locate_axes(row, axes2), axes2);
  y_store2(at.y, first.x, second.x);
  y_store2(at.y + P.u0, first.y, second.y);
#else
  y_store(at.y, first.x);
  y_store(at.y + P.u0 * P.y_strides.w, first.y);
#endif
}
