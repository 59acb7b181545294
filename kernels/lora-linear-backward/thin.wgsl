// Gradients of the pairs of a group, up to three, as partial sums over ranges of the rows: daᵢ = gᵢᵀ · x [r, k] and dbᵢ = dyᵢᵀ · hᵢ [n, r], whose
// rows and columns lie side by side in memory. dbᵢ is taken as its transpose, so that both are r high. A workgroup takes 16 × 32 of one of them: 16
// slices of 16 invocations walk the rows of the range, 4 × 8 each. sum-pairs.wgsl adds the ranges up.
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

// a [rows, m] of step `a_k`, b [columns, m] of step `b_k`: g and x for da, h and dy for the transpose of db.
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
  let tiles = (one.columns + 31u) / 32u;
  let row0 = group.x / tiles * 16u;
  let column0 = group.x % tiles * 32u;
  if row0 >= one.rows {
    return;
  }
  let row = row0 + (id / 4u) % 4u * 4u;
  let column = column0 + id % 4u * 8u;
#for i in 0..4
#for j in 0..2
  var sum_$(i)_$(j) = vec4<f32>();
#endfor
#endfor
  let end = min(P.m, (split + 1u) * P.range);
  let first = split * P.range + id / 16u * 4u;
#for kind in 0..2
#if kind == 0
#define A g
#define B x
#else
#define A h
#define B d
#endif
  if (which < $(PAIRS)u) == ($(kind)u == 0u) {
    var k = first;
    if row + 4u <= one.rows && column + 8u <= one.columns {
      for (; k + 4u <= end; k += 64u) {
        let a = $(A)_whole(one.a_offset, row, k, 1u, one.a_k);
        let b0 = $(B)_whole(one.b_offset, column, k, 1u, one.b_k);
        let b1 = $(B)_whole(one.b_offset, column + 4u, k, 1u, one.b_k);
#include "common/wgsl/thin-round.wgsl"
      }
    }
    for (; k < end && row < one.rows; k += 64u) {
      let a = $(A)_block(one.a_offset, row, one.rows, k, end, 1u, one.a_k);
      let b0 = $(B)_block(one.b_offset, column, one.columns, k, end, 1u, one.b_k);
      let b1 = $(B)_block(one.b_offset, column + 4u, one.columns, k, end, 1u, one.b_k);
#include "common/wgsl/thin-round.wgsl"
    }
  }
#endfor
  // Of da, or of db.
  let row_step = select(1u, one.columns, which < $(PAIRS)u);
  let column_step = select(one.rows, 1u, which < $(PAIRS)u);
#for j in 0..2
  workgroupBarrier();
#for i in 0..4
  partial[id * 4u + $(i)u] = sum_$(i)_$(j);
#endfor
  workgroupBarrier();
  if id < 64u {
    var sum = partial[id];
    for (var slice = 1u; slice < 16u; slice++) {
      sum += partial[slice * 64u + id];
    }
    let y_row = row0 + id / 16u * 4u + id % 4u;
    let y_column = column0 + (id / 4u) % 4u * 8u + $(j)u * 4u;
    if y_row < one.rows {
      for (var e = 0u; e < min(4u, max(y_column, one.columns) - y_column); e++) {
        y_store(split * P.size + one.y_offset + y_row * row_step + (y_column + e) * column_step, sum[e]);
      }
    }
  }
#endfor
}
