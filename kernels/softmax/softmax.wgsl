// Operand a: x. May lie over y: an invocation reads in the last sweep only what it writes.
#include "common/wgsl/rows.wgsl"
#include "common/wgsl/operand.wgsl" (N = y)
#include "common/wgsl/operand.wgsl" (N = a)
#include "common/wgsl/store-row.wgsl"

var<private> largest: f32;
var<private> total: f32;

fn value(at: At, column: u32) -> f32 {
  return exp(a_load(at.a + column * P.a_strides.w) - largest) / total;
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
  var high = -infinity();
  var broken = 0.0; // NaN where the row holds one, or +infinity
  for (var column = lane; column < P.shape.w; column += row_width) {
    let x = a_load(at.a + column * P.a_strides.w);
    if is_nan(x) {
      broken = not_a_number();
    } else {
      high = max(high, x);
    }
  }
  largest = row_max(lane, high);
  if bitcast<u32>(largest) == infinity_bits || bitcast<u32>(largest) == (infinity_bits | 0x80000000u) {
    broken = not_a_number();
  }
  var sum = broken;
  for (var column = lane; column < P.shape.w; column += row_width) {
    sum += exp(a_load(at.a + column * P.a_strides.w) - largest);
  }
  total = row_sum(lane, sum);
  store_row(at, lane);
}
