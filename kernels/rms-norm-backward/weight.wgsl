// dweight = Σ rows dy · x · rstd: column sums. A workgroup takes 64 columns and one of the ranges of rows (y of the grid), by four rows
// at a time. Operand a: dy, b: x, c: rstd; y: f32 partial sums [ranges, columns]. u0: rows a range, u1: rows in all.
#include "common/wgsl/numbers.wgsl"
#include "common/wgsl/strided.wgsl"
#include "common/wgsl/operand.wgsl" (N = y)
#include "common/wgsl/operand.wgsl" (N = a)
#include "common/wgsl/operand.wgsl" (N = b)
#include "common/wgsl/operand.wgsl" (N = c)

var<workgroup> meeting: array<f32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) id: u32) {
  let lane = id / 64u;
  let column = group.x * 64u + id % 64u;
  var sum = 0.0;
  if column < P.shape.w {
    let to = min(P.u1, (group.y + 1u) * P.u0);
    for (var row = group.y * P.u0 + lane; row < to; row += 4u) {
      let z = row / P.shape.z;
      let at = locate_axes(row, vec4<u32>(z / P.shape.y, z % P.shape.y, row % P.shape.z, 0u));
      sum += a_load(at.a + column * P.a_strides.w) * (b_load(at.b + column * P.b_strides.w) * c_load(at.c));
    }
  }
  meeting[id] = sum;
  workgroupBarrier();
  if lane == 0u && column < P.shape.w {
    y_store(P.offsets.x + group.y * P.shape.w + column, (meeting[id] + meeting[id + 64u]) + (meeting[id + 128u] + meeting[id + 192u]));
  }
}
