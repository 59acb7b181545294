// Operand a: x, b: weight (one row for all), c: rstd (written). f0: eps.
#include "common/wgsl/rows.wgsl"
#include "common/wgsl/operand.wgsl" (N = y)
#include "common/wgsl/operand.wgsl" (N = a)
#include "common/wgsl/operand.wgsl" (N = b)
#include "common/wgsl/operand.wgsl" (N = c)
#include "common/wgsl/store-row.wgsl"

var<private> rstd: f32;

fn value(at: At, column: u32) -> f32 {
  return a_load(at.a + column * P.a_strides.w) * rstd * b_load(at.b + column * P.b_strides.w);
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
    let x = a_load(at.a + column * P.a_strides.w);
    sum += x * x;
  }
  rstd = 1.0 / sqrt(row_sum(lane, sum) / f32(P.shape.w) + P.f0);
  if lane == 0u {
    c_store(at.c, rstd);
  }
  store_row(at, lane);
}
