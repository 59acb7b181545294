// What the other kernels read of each query, into the workspace z (f32): [batch, head, query, 2] log-sum-exp times log₂ e and Δ = Σ dy · y,
// then [batch, query, 2] the first key seen and one past the last. Four queries a workgroup, 32 invocations each.
#include "common/wgsl/numbers.wgsl"
#include "common/wgsl/operand.wgsl" (N = z)
#include "common/wgsl/operand.wgsl" (N = dy)
#include "common/wgsl/operand.wgsl" (N = y)
#include "common/wgsl/operand.wgsl" (N = lse)
#include "common/wgsl/visible.wgsl"

struct Params {
  // Strides of batch, position, head, element.
  dy_strides: vec4<u32>,
  y_strides: vec4<u32>,
  // Of batch, head, position.
  lse_strides: vec4<u32>,
  // Of batch and position.
  starts_strides: vec2<u32>,
  ends_strides: vec2<u32>,
  dy_offset: u32,
  y_offset: u32,
  lse_offset: u32,
  starts_offset: u32,
  ends_offset: u32,
  z_offset: u32,
  heads: u32,
  batches: u32,
  queries: u32,
  keys: u32,
  width: u32,
}
@group(0) @binding(0) var<uniform> P: Params;

var<workgroup> meeting: array<f32, 128>;

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) id: u32) {
  let batch = group.z;
  let head = group.y;
  let query = group.x * 4u + id / 32u;
  let lane = id % 32u;
  var sum = 0.0;
  if query < P.queries {
    let dy_at = P.dy_offset + batch * P.dy_strides.x + query * P.dy_strides.y + head * P.dy_strides.z;
    let y_at = P.y_offset + batch * P.y_strides.x + query * P.y_strides.y + head * P.y_strides.z;
    for (var d = lane; d < P.width; d += 32u) {
      sum += dy_load(dy_at + d * P.dy_strides.w) * y_load(y_at + d * P.y_strides.w);
    }
  }
  meeting[id] = sum;
  for (var half = 16u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if lane < half {
      meeting[id] += meeting[id + half];
    }
  }
  if lane == 0u && query < P.queries {
    let at = P.z_offset + ((batch * P.heads + head) * P.queries + query) * 2u;
    let lse = lse_load(P.lse_offset + batch * P.lse_strides.x + head * P.lse_strides.y + query * P.lse_strides.z);
    z_store(at, lse * 1.4426950408889634);
    z_store(at + 1u, meeting[id]);
    if head == 0u {
      let seen = visible(batch, query, P.queries, P.keys);
      let bounds = P.z_offset + (P.batches * P.heads * P.queries + batch * P.queries + query) * 2u;
      z_store(bounds, f32(seen.x));
      z_store(bounds + 1u, f32(seen.y));
    }
  }
}
