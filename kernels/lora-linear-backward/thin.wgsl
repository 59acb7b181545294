// Gradients of the pairs of a group, up to three, as partial sums over ranges of the rows: daᵢ = gᵢᵀ · x [r, k] and dbᵢ = dyᵢᵀ · hᵢ [n, r], whose
// rows and columns lie side by side in memory. A workgroup takes 16 × 16 of one of them: 16 slices of 16 invocations walk the rows of the
// range, 4 × 4 each. sum-pairs.wgsl adds the ranges up.
#include "common/wgsl/numbers.wgsl"
#include "common/wgsl/operand.wgsl" (N = y)
#include "common/wgsl/operand.wgsl" (N = g)
#include "common/wgsl/block.wgsl" (N = g)
#include "common/wgsl/operand.wgsl" (N = x)
#include "common/wgsl/block.wgsl" (N = x)
#include "common/wgsl/operand.wgsl" (N = d)
#include "common/wgsl/block.wgsl" (N = d)
#include "common/wgsl/operand.wgsl" (N = h)
#include "common/wgsl/block.wgsl" (N = h)

// a [rows, m] of step `a_k`, b [columns, m] of step `b_k`: g and x for da, dy and h for db.
struct Gradient {
  a_offset: u32,
  a_k: u32,
  rows: u32,
  b_offset: u32,
  b_k: u32,
  columns: u32,
  y_offset: u32,
  unused: u32,
}
struct Params {
  gradients: array<Gradient, 6>,
  m: u32,
  splits: u32,
  range: u32,
  // Numbers of one range.
  size: u32,
}
@group(0) @binding(0) var<uniform> P: Params;

var<workgroup> partial: array<vec4<f32>, 1024>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) id: u32) {
  let which = group.z / P.splits;
  let split = group.z % P.splits;
  let one = P.gradients[which];
  let tiles = (one.columns + 15u) / 16u;
  let row0 = group.x / tiles * 16u;
  let column0 = group.x % tiles * 16u;
  if row0 >= one.rows {
    return;
  }
  let row = row0 + (id / 4u) % 4u * 4u;
  let column = column0 + id % 4u * 4u;
#for i in 0..4
  var sum_$(i) = vec4<f32>();
#endfor
  let end = min(P.m, (split + 1u) * P.range);
  for (var k = split * P.range + id / 16u * 4u; k < end; k += 64u) {
    var a: mat4x4<f32>;
    var b: mat4x4<f32>;
    if which < $(PAIRS)u {
      a = g_block(one.a_offset, row, one.rows, k, end, 1u, one.a_k);
      b = x_block(one.b_offset, column, one.columns, k, end, 1u, one.b_k);
    } else {
      a = d_block(one.a_offset, row, one.rows, k, end, 1u, one.a_k);
      b = h_block(one.b_offset, column, one.columns, k, end, 1u, one.b_k);
    }
#for u in 0..4
#for i in 0..4
    sum_$(i) = fma(vec4<f32>(a[$(u)][$(i)]), b[$(u)], sum_$(i));
#endfor
#endfor
  }
#for i in 0..4
  partial[id * 4u + $(i)u] = sum_$(i);
#endfor
  workgroupBarrier();
  if id < 64u {
    var sum = partial[id];
    for (var slice = 1u; slice < 16u; slice++) {
      sum += partial[slice * 64u + id];
    }
    let y_row = row0 + id / 16u * 4u + id % 4u;
    let y_column = column0 + (id / 4u) % 4u * 4u;
    if y_row < one.rows {
      for (var e = 0u; e < min(4u, max(y_column, one.columns) - y_column); e++) {
        y_store(split * P.size + one.y_offset + y_row * one.columns + y_column + e, sum[e]);
      }
    }
  }
}
