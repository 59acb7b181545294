// Operand y: dx, a: dy, b: x, c: rstd, d: weight (one row for all).
#include "common/wgsl/rows.wgsl"
#include "common/wgsl/operand.wgsl" (N = y)
#include "common/wgsl/operand.wgsl" (N = a)
#include "common/wgsl/operand.wgsl" (N = b)
#include "common/wgsl/operand.wgsl" (N = c)
#include "common/wgsl/operand.wgsl" (N = d)
#include "common/wgsl/store-row.wgsl"

var<private> rstd: f32;
var<private> mean: f32;

fn value(at: At, column: u32) -> f32 {
  let g = a_load(at.a + column * P.a_strides.w) * d_load(at.d + column * P.d_strides.w);
  let scaled = b_load(at.b + column * P.b_strides.w) * rstd;
  return rstd * (g - scaled * mean);
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
  rstd = c_load(at.c);
  var sum = 0.0;
  for (var column = lane; column < P.shape.w; column += row_width) {
    sum += a_load(at.a + column * P.a_strides.w) * d_load(at.d + column * P.d_strides.w) * b_load(at.b + column * P.b_strides.w);
  }
  mean = row_sum(lane, sum) * rstd / f32(P.shape.w);
  store_row(at, lane);
}
