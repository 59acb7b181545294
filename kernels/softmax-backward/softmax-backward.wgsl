// Operand y: dx, a: dy, b: y of the forward pass.
#include "common/wgsl/rows.wgsl"
#include "common/wgsl/operand.wgsl" (N = y)
#include "common/wgsl/operand.wgsl" (N = a)
#include "common/wgsl/operand.wgsl" (N = b)
#include "common/wgsl/store-row.wgsl"

var<private> total: f32;

fn value(at: At, column: u32) -> f32 {
  return b_load(at.b + column * P.b_strides.w) * (a_load(at.a + column * P.a_strides.w) - total);
}

@compute @workgroup_size(row_width)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let row = group_number(group, groups);
  if row >= P.units {
    return;
  }
  let at = locate_row(row);
  var sum = 0.0;
  for (var column = lane; column < P.shape.w; column += row_width) {
    sum += a_load(at.a + column * P.a_strides.w) * b_load(at.b + column * P.b_strides.w);
  }
  total = row_sum(lane, sum);
  store_row(at, lane);
}
