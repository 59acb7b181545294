// Gradients of attention, scores made again tile by tile. FOR query: rows are queries (operands a: q, b: dy), columns keys (c: k, e: v), and
// the result is dq (u). FOR key: rows are keys (a: k, b: v), columns queries of every head of the group (c: q, e: dy), and the results are
// dk (u) and dv (x). A workgroup of 128 invocations, 16 × 8, takes 16 · R rows and walks the columns by 32. z: prepare.wgsl.
// DP: the head's width rounded up to 32, DV = DP / 32; VC: columns at a time in the second product.
#include "common/wgsl/numbers.wgsl"
#include "common/wgsl/operand.wgsl" (N = a)
#include "common/wgsl/block.wgsl" (N = a)
#include "common/wgsl/operand.wgsl" (N = b)
#include "common/wgsl/block.wgsl" (N = b)
#include "common/wgsl/operand.wgsl" (N = c)
#include "common/wgsl/block.wgsl" (N = c)
#include "common/wgsl/operand.wgsl" (N = e)
#include "common/wgsl/block.wgsl" (N = e)
#include "common/wgsl/operand.wgsl" (N = z)
#include "common/wgsl/operand.wgsl" (N = u)
#include "common/wgsl/store-quad.wgsl" (N = u)
#if FOR == key
#include "common/wgsl/operand.wgsl" (N = x)
#include "common/wgsl/store-quad.wgsl" (N = x)
#endif

#include "common/wgsl/attention-backward-params.wgsl"

const rows = 16u * $(R)u;
const row_blocks = rows / 4u;
#if R == 4
alias Row = vec4<f32>;
#else
alias Row = vec2<f32>;
#endif
// Chunks of 8 of the head's width: a, b, c, e; then rows of the columns' operands.
var<workgroup> stage: array<vec4<f32>, $(STAGE)>;
// By column and invocation row: dS, and for keys P.
var<workgroup> slopes: array<Row, 32 * 16>;
#if FOR == key
var<workgroup> weights: array<Row, 32 * 16>;
#endif
var<workgroup> meeting: atomic<u32>;
var<workgroup> found: u32;

fn row_of(stage_at: u32, d: u32, ty: u32) -> Row {
#if R == 4
  return stage[stage_at + d * row_blocks + ty];
#else
  let both = stage[stage_at + d * row_blocks + ty / 2u];
  return select(both.xy, both.zw, (ty & 1u) == 1u);
#endif
}

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) id: u32) {
  let batch = group.z;
  let row0 = group.x * rows;
  let tx = id % 8u;
  let ty = id / 8u;
#if FOR == query
  let row_count = P.queries;
  let column_count = P.keys;
  let row_head = group.y;
  let heads_from = group.y;
  let heads_to = group.y + 1u;
#else
  let row_count = P.keys;
  let column_count = P.queries;
  let row_head = group.y;
  let heads_from = group.y * P.group;
  let heads_to = heads_from + P.group;
#endif
  let a_base = P.a_offset + batch * P.a_strides.x + row_head * P.a_strides.z;
  let b_base = P.b_offset + batch * P.b_strides.x + row_head * P.b_strides.z;
#for r in 0..$(R)
  let row_$(r) = row0 + ty * $(R)u + $(r)u;
#if FOR == query
  var row_stats_$(r) = vec2<f32>();
  var row_bounds_$(r) = vec2<u32>();
  if row_$(r) < row_count {
    row_stats_$(r) = stats(batch, row_head, row_$(r));
    row_bounds_$(r) = bounds(batch, row_$(r));
  }
#endif
#for j in 0..$(DV)
  var u_$(r)_$(j) = vec4<f32>();
#if FOR == key
  var x_$(r)_$(j) = vec4<f32>();
#endif
#endfor
#endfor
  for (var head = heads_from; head < heads_to; head++) {
#if FOR == query
    let column_head = head / P.group;
#else
    let column_head = head;
#endif
    let c_base = P.c_offset + batch * P.c_strides.x + column_head * P.c_strides.z;
    let e_base = P.e_offset + batch * P.e_strides.x + column_head * P.e_strides.z;
    for (var column0 = 0u; column0 < column_count; column0 += 32u) {
      // Does any query of the tile see any key of it?
      if id == 0u {
        atomicStore(&meeting, 0u);
      }
      workgroupBarrier();
#if FOR == query
      if id < rows {
        let query = row0 + id;
        let key0 = column0;
        let key1 = column0 + 32u;
#else
      if id < 32u {
        let query = column0 + id;
        let key0 = row0;
        let key1 = row0 + rows;
#endif
        if query < P.queries {
          let seen = bounds(batch, query);
          if seen.x < seen.y && seen.x < key1 && seen.y > key0 {
            atomicStore(&meeting, 1u);
          }
        }
      }
      workgroupBarrier();
      if id == 0u {
        found = atomicLoad(&meeting);
      }
      let any = workgroupUniformLoad(&found);
      if any == 0u {
        continue;
      }
#for r in 0..$(R)
      var score_$(r) = vec4<f32>();
      var slope_$(r) = vec4<f32>();
#endfor
      for (var d0 = 0u; d0 < P.width; d0 += 8u) {
        workgroupBarrier();
        // Each of the 2 · row_blocks + 2 · 8 pairs of rows' blocks has two blocks of the chunk.
        for (var i = id; i < 4u * row_blocks + 32u; i += 128u) {
          let d = (i % 2u) * 4u;
          var block: mat4x4<f32>;
          var at: u32;
          var width: u32;
          if i < 2u * row_blocks {
            block = a_block(a_base, row0 + i / 2u * 4u, row_count, d0 + d, P.width, P.a_strides.y, P.a_strides.w);
            at = d * row_blocks + i / 2u;
            width = row_blocks;
          } else if i < 4u * row_blocks {
            let n = i - 2u * row_blocks;
            block = b_block(b_base, row0 + n / 2u * 4u, row_count, d0 + d, P.width, P.b_strides.y, P.b_strides.w);
            at = (8u + d) * row_blocks + n / 2u;
            width = row_blocks;
          } else if i < 4u * row_blocks + 16u {
            let n = i - 4u * row_blocks;
            block = c_block(c_base, column0 + n / 2u * 4u, column_count, d0 + d, P.width, P.c_strides.y, P.c_strides.w);
            at = 16u * row_blocks + d * 8u + n / 2u;
            width = 8u;
          } else {
            let n = i - 4u * row_blocks - 16u;
            block = e_block(e_base, column0 + n / 2u * 4u, column_count, d0 + d, P.width, P.e_strides.y, P.e_strides.w);
            at = 16u * row_blocks + 64u + d * 8u + n / 2u;
            width = 8u;
          }
#for j in 0..4
          stage[at + $(j)u * width] = block[$(j)];
#endfor
        }
        workgroupBarrier();
        for (var d = 0u; d < 8u; d++) {
          let ra = row_of(0u, d, ty);
          let rb = row_of(8u * row_blocks, d, ty);
          let cc = stage[16u * row_blocks + d * 8u + tx];
          let ce = stage[16u * row_blocks + 64u + d * 8u + tx];
#for r in 0..$(R)
          score_$(r) = fma(vec4<f32>(ra[$(r)]), cc, score_$(r));
          slope_$(r) = fma(vec4<f32>(rb[$(r)]), ce, slope_$(r));
#endfor
        }
      }
      // P = exp(scale · score − lse), dS = P ∘ (slope − Δ).
      let column = vec4<u32>(column0 + tx * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
#if FOR == key
      var lse: vec4<f32>;
      var delta: vec4<f32>;
      var seen_from: vec4<u32>;
      var seen_to: vec4<u32>;
#for i in 0..4
      if column[$(i)] < P.queries {
        let s = stats(batch, head, column[$(i)]);
        let b = bounds(batch, column[$(i)]);
        lse[$(i)] = s.x;
        delta[$(i)] = s.y;
        seen_from[$(i)] = b.x;
        seen_to[$(i)] = b.y;
      }
#endfor
#for r in 0..$(R)
      let shown_$(r) = (vec4<u32>(row_$(r)) >= seen_from) & (vec4<u32>(row_$(r)) < seen_to);
      let weight_$(r) = select(vec4<f32>(), exp2(score_$(r) * (P.scale * 1.4426950408889634) - lse), shown_$(r));
      let own_$(r) = select(vec4<f32>(), weight_$(r) * (slope_$(r) - delta), shown_$(r));
#endfor
#else
#for r in 0..$(R)
      let shown_$(r) = (column >= vec4<u32>(row_bounds_$(r).x)) & (column < vec4<u32>(row_bounds_$(r).y));
      let weight_$(r) = select(vec4<f32>(), exp2(score_$(r) * (P.scale * 1.4426950408889634) - row_stats_$(r).x), shown_$(r));
      let own_$(r) = select(vec4<f32>(), weight_$(r) * (slope_$(r) - row_stats_$(r).y), shown_$(r));
#endfor
#endif
#for i in 0..4
#if R == 4
      slopes[(tx * 4u + $(i)u) * 16u + ty] = Row(own_0[$(i)], own_1[$(i)], own_2[$(i)], own_3[$(i)]);
#if FOR == key
      weights[(tx * 4u + $(i)u) * 16u + ty] = Row(weight_0[$(i)], weight_1[$(i)], weight_2[$(i)], weight_3[$(i)]);
#endif
#else
      slopes[(tx * 4u + $(i)u) * 16u + ty] = Row(own_0[$(i)], own_1[$(i)]);
#if FOR == key
      weights[(tx * 4u + $(i)u) * 16u + ty] = Row(weight_0[$(i)], weight_1[$(i)]);
#endif
#endif
#endfor
      // u += dS · c, and for keys x += P · e.
      for (var n0 = 0u; n0 < 32u; n0 += $(VC)u) {
        workgroupBarrier();
        for (var i = id; i < $(VC)u * ($(DP)u / 4u); i += 128u) {
          let n = column0 + n0 + i / ($(DP)u / 4u);
          let d = i % ($(DP)u / 4u) * 4u;
          stage[i] = c_quad(c_base, n, column_count, d, P.width, P.c_strides.y, P.c_strides.w);
#if FOR == key
          stage[$(VC)u * ($(DP)u / 4u) + i] = e_quad(e_base, n, column_count, d, P.width, P.e_strides.y, P.e_strides.w);
#endif
        }
        workgroupBarrier();
        for (var n = 0u; n < $(VC)u; n++) {
          let slope = slopes[(n0 + n) * 16u + ty];
#for j in 0..$(DV)
          {
            let c_row = stage[n * ($(DP)u / 4u) + $(j)u * 8u + tx];
#for r in 0..$(R)
            u_$(r)_$(j) = fma(vec4<f32>(slope[$(r)]), c_row, u_$(r)_$(j));
#endfor
          }
#endfor
#if FOR == key
          let weight = weights[(n0 + n) * 16u + ty];
#for j in 0..$(DV)
          {
            let e_row = stage[($(VC)u + n) * ($(DP)u / 4u) + $(j)u * 8u + tx];
#for r in 0..$(R)
            x_$(r)_$(j) = fma(vec4<f32>(weight[$(r)]), e_row, x_$(r)_$(j));
#endfor
          }
#endfor
#endif
        }
      }
      workgroupBarrier();
    }
  }
  for (var i = 0u; i < $(R)u * $(DV)u; i++) {
    var own_u: vec4<f32>;
#if FOR == key
    var own_x: vec4<f32>;
#endif
    switch i {
#for r in 0..$(R)
#for j in 0..$(DV)
      case $(r)u * $(DV)u + $(j)u: {
        own_u = u_$(r)_$(j);
#if FOR == key
        own_x = x_$(r)_$(j);
#endif
      }
#endfor
#endfor
      default: {
      }
    }
    let row = row0 + ty * $(R)u + i / $(DV)u;
    let d = (i % $(DV)u * 8u + tx) * 4u;
    if row < row_count && d < P.width {
      let many = min(4u, P.width - d);
      let u_at = P.u_offset + batch * P.u_strides.x + row * P.u_strides.y + row_head * P.u_strides.z + d * P.u_strides.w;
      u_put_quad(u_at, P.scale * own_u, many, P.u_strides.w);
#if FOR == key
      let x_at = P.x_offset + batch * P.x_strides.x + row * P.x_strides.y + row_head * P.x_strides.z + d * P.x_strides.w;
      x_put_quad(x_at, own_x, many, P.x_strides.w);
#endif
    }
  }
}
