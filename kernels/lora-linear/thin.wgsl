// Products with few columns, y = scale · x · pᵀ for p [n, k], one for each of up to three pairs of a group: their x and y are columns of the
// same tensors. A workgroup takes 4 · BLOCKS × 16 of y: slices of 4 · BLOCKS invocations walk the inner axis side by side, 4 × 4 each, two rounds at
// a time while all of both is there, so that loads are under way together; the slices' sums are added up in order.
#include "common/wgsl/numbers.wgsl"
#include "common/wgsl/operand.wgsl" (N = y)
#include "common/wgsl/store-quad.wgsl" (N = y)
#include "common/wgsl/operand.wgsl" (N = x)
#include "common/wgsl/block.wgsl" (N = x)
#for i in 0..$(PAIRS)
#include "common/wgsl/operand.wgsl" (N = p$(i))
#include "common/wgsl/block.wgsl" (N = p$(i))
#endfor

struct Pair {
  x_offset: u32,
  k: u32,
  p_offset: u32,
  p_row: u32,
  p_k: u32,
  n: u32,
  y_offset: u32,
  y_row: u32,
  scale: f32,
  unused_1: u32,
  unused_2: u32,
  unused_3: u32,
}
struct Params {
  pairs: array<Pair, 3>,
  m: u32,
  x_row: u32,
}
@group(0) @binding(0) var<uniform> P: Params;

const row_blocks = $(BLOCKS)u;
const slices = 64u / row_blocks;
const step = 4u * slices;
var<workgroup> partial: array<vec4<f32>, 1024>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) id: u32) {
  let pair = P.pairs[group.z];
  let row0 = group.x * 4u * row_blocks;
  let row = row0 + (id / 4u) % row_blocks * 4u;
  let column = group.y * 16u + id % 4u * 4u;
  if group.y * 16u >= pair.n {
    return;
  }
#for i in 0..4
  var sum_$(i) = vec4<f32>();
#endfor
  var k = id / (4u * row_blocks) * 4u;
  if row + 4u <= P.m && column + 4u <= pair.n {
    for (; k + step + 4u <= pair.k; k += 2u * step) {
      var b0: mat4x4<f32>;
      var b1: mat4x4<f32>;
#for i in 0..$(PAIRS)
      if group.z == $(i)u {
        b0 = p$(i)_whole(pair.p_offset, column, k, pair.p_row, pair.p_k);
        b1 = p$(i)_whole(pair.p_offset, column, k + step, pair.p_row, pair.p_k);
      }
#endfor
      let a0 = x_whole(pair.x_offset, row, k, P.x_row, 1u);
      let a1 = x_whole(pair.x_offset, row, k + step, P.x_row, 1u);
#for r in 0..2
#for u in 0..4
#for i in 0..4
      sum_$(i) = fma(vec4<f32>(a$(r)[$(u)][$(i)]), b$(r)[$(u)], sum_$(i));
#endfor
#endfor
#endfor
    }
  }
  for (; k < pair.k; k += step) {
    let a = x_block(pair.x_offset, row, P.m, k, pair.k, P.x_row, 1u);
    var b: mat4x4<f32>;
#for i in 0..$(PAIRS)
    if group.z == $(i)u {
      b = p$(i)_block(pair.p_offset, column, pair.n, k, pair.k, pair.p_row, pair.p_k);
    }
#endfor
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
  if id < 16u * row_blocks {
    var sum = partial[id];
    for (var slice = 1u; slice < slices; slice++) {
      sum += partial[slice * 16u * row_blocks + id];
    }
    let y_row = row0 + id / 16u * 4u + id % 4u;
    let y_column = group.y * 16u + (id / 4u) % 4u * 4u;
    if y_row < P.m && y_column < pair.n {
      y_put_quad(pair.y_offset + y_row * pair.y_row + y_column, pair.scale * sum, min(4u, pair.n - y_column), 1u);
    }
  }
}
