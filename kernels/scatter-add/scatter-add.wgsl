// In place: a workgroup for each index. The first of equal ids takes them all, in order, and adds their rows to the row of y; the others
// do nothing. Operand y: rows of y, ids, x. A row has up to three axes.
#include "common/wgsl/numbers.wgsl"
#include "common/wgsl/operand.wgsl" (N = y)
#include "common/wgsl/operand.wgsl" (N = ids)
#include "common/wgsl/operand.wgsl" (N = x)

struct Params {
  // Axes of the ids.
  id_shape: vec4<u32>,
  id_strides: vec4<u32>,
  x_id_strides: vec4<u32>,
  // Axes of a row.
  shape: vec4<u32>,
  x_strides: vec4<u32>,
  y_strides: vec4<u32>,
  ids_offset: u32,
  x_offset: u32,
  y_offset: u32,
  count: u32,
  width: u32,
  rows: u32,
  pitch: u32,
}
@group(0) @binding(0) var<uniform> P: Params;

var<workgroup> window: array<u32, 256>;
var<workgroup> taken: atomic<u32>;
var<workgroup> skipped: u32;

fn axes(i: u32, shape: vec4<u32>) -> vec4<u32> {
  let z = i / shape.w;
  let y = z / shape.z;
  return vec4<u32>(y / shape.y, y % shape.y, z % shape.z, i % shape.w);
}

fn id_at(i: u32) -> u32 {
  return ids_load(P.ids_offset + dot(axes(i, P.id_shape), P.id_strides));
}

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let own = group_number(group, groups);
  if own >= P.count {
    return;
  }
  let id = id_at(own);
  if lane == 0u {
    atomicStore(&taken, 0u);
  }
  workgroupBarrier();
  // An equal id before this one has the row.
  for (var i = lane; i < own; i += 256u) {
    if id_at(i) == id {
      atomicStore(&taken, 1u);
    }
  }
  workgroupBarrier();
  if lane == 0u {
    skipped = atomicLoad(&taken);
  }
  let skip = workgroupUniformLoad(&skipped);
  if skip != 0u {
    return;
  }
  // ids are compared a window at a time; each invocation sums columns lane, lane + 256, …
  let columns = (P.width + 255u) / 256u;
  for (var step = 0u; step < columns; step++) {
    let column = step * 256u + lane;
    let real = column < P.width && id < P.rows;
    let place = axes(column, P.shape);
    let y_at = P.y_offset + id * P.pitch + dot(place, P.y_strides);
    let x_at = P.x_offset + dot(place, P.x_strides);
    var sum = 0.0;
    if real {
      sum = y_load(y_at);
    }
    for (var first = own; first < P.count; first += 256u) {
      workgroupBarrier();
      if first + lane < P.count {
        window[lane] = id_at(first + lane);
      }
      workgroupBarrier();
      if real {
        let many = min(256u, P.count - first);
        for (var i = 0u; i < many; i++) {
          if window[i] == id {
            sum += x_load(x_at + dot(axes(first + i, P.id_shape), P.x_id_strides));
          }
        }
      }
    }
    if real {
      y_store(y_at, sum);
    }
  }
}
