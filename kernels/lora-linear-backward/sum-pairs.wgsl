// The gradients of pairs from the partial sums of thin.wgsl (operand s), in order: daᵢ into the first operands y, then dbᵢ, times its scale.
#include "common/wgsl/numbers.wgsl"
#include "common/wgsl/operand.wgsl" (N = s)
#for i in 0..$(GRADIENTS)
#include "common/wgsl/operand.wgsl" (N = y$(i))
#endfor

struct Gradient {
  s_offset: u32,
  y_offset: u32,
  count: u32,
  scale: f32,
}
struct Params {
  gradients: array<Gradient, 6>,
  splits: u32,
  // Numbers of one range.
  size: u32,
}
@group(0) @binding(0) var<uniform> P: Params;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let one = P.gradients[group.z];
  let i = group.x * 256u + lane;
  if i >= one.count {
    return;
  }
  var sum = 0.0;
  for (var split = 0u; split < P.splits; split++) {
    sum += s_load(split * P.size + one.s_offset + i);
  }
  sum *= one.scale;
  switch group.z {
#for i in 0..$(GRADIENTS)
    case $(i)u: {
      y$(i)_store(one.y_offset + i, sum);
    }
#endfor
    default: {
    }
  }
}
