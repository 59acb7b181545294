// Operand a: logits, b: labels, scale f32 [1] at u0 (SCALED). GRADIENT: y is dlogits, which may lie over the logits, and c the loss;
// else y is the loss.
#include "common/wgsl/rows.wgsl"
#include "common/wgsl/operand.wgsl" (N = a)
#include "common/wgsl/operand.wgsl" (N = b)
#include "common/wgsl/operand.wgsl" (N = y)
#if SCALED
#include "common/wgsl/operand.wgsl" (N = scale)
#endif
#if GRADIENT
#include "common/wgsl/operand.wgsl" (N = c)
#include "common/wgsl/store-row.wgsl"

var<private> highest: f32;
var<private> total: f32;
var<private> label: i32;
var<private> factor: f32;

fn value(at: At, column: u32) -> f32 {
  if label == -100 {
    return 0.0;
  }
  return factor * (exp(a_load(at.a + column * P.a_strides.w) - highest) / total - select(0.0, 1.0, i32(column) == label));
}
#endif

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
  let own_label = b_load(at.b);
  var high = -infinity();
  var broken = 0.0;
  for (var column = lane; column < P.shape.w; column += row_width) {
    let x = a_load(at.a + column * P.a_strides.w);
    if is_nan(x) {
      broken = not_a_number();
    } else {
      high = max(high, x);
    }
  }
  let largest = row_max(lane, high);
  if (bitcast<u32>(largest) & 0x7fffffffu) == infinity_bits {
    broken = not_a_number();
  }
  var sum = broken;
  for (var column = lane; column < P.shape.w; column += row_width) {
    sum += exp(a_load(at.a + column * P.a_strides.w) - largest);
  }
  let all = row_sum(lane, sum);
  if lane == 0u {
    var loss = 0.0;
    if own_label != -100 {
      // The large terms cancel first.
      loss = (largest - a_load(at.a + min(u32(own_label), P.shape.w - 1u) * P.a_strides.w)) + logarithm(all);
    }
    $(LOSS)_store(at.$(LOSS), loss);
  }
#if GRADIENT
  workgroupBarrier(); // the label's logit is read before it is overwritten
  storageBarrier();
  highest = largest;
  total = all;
  label = own_label;
#if SCALED
  factor = scale_load(P.u0);
#else
  factor = 1.0;
#endif
  store_row(at, lane);
#endif
}
