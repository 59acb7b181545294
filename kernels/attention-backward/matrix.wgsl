// As attention-backward.wgsl, on subgroup matrices: f16, rows a multiple of 64, columns of 32, width 16 · DK. Four subgroups of 16 rows walk the
// columns by 32, whose c and e lie in workgroup memory. One result a dispatch, which leaves registers for the rows of a and b. FOR query: a: q, b: dy, c: k, e: v, and u: dq. FOR key: a: k, c: q, e: dy, and with b: v, u: dk; without (OF weights) u: dv. SPLIT: a workgroup takes one query head of those that share a key head; u are f32 sums [query heads a key head, …], one
// after another.
enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;
diagnostic(off, chromium.subgroup_matrix_uniformity);

#include "common/wgsl/numbers.wgsl"
#include "common/wgsl/operand.wgsl" (N = a)
#if OF == gradients
#include "common/wgsl/operand.wgsl" (N = b)
#endif
#include "common/wgsl/operand.wgsl" (N = c)
#include "common/wgsl/operand.wgsl" (N = e)
#include "common/wgsl/operand.wgsl" (N = z)
#include "common/wgsl/operand.wgsl" (N = u)
#include "common/wgsl/store-quad.wgsl" (N = u)
#include "common/wgsl/attention-backward-params.wgsl"
#include "common/wgsl/visible.wgsl"

const lanes = $(THREADS)u / 4u;
const row_vectors = $(DK)u * 2u;
const row_step = row_vectors + 1u;
#include "common/wgsl/matrix-memory.wgsl" (N = c_tile, SIZE = 32u * row_step)
#include "common/wgsl/matrix-memory.wgsl" (N = e_tile, SIZE = 32u * row_step)
var<workgroup> scores: array<f32, 4 * 16 * 36>;
#if OF == gradients
var<workgroup> slopes: array<f32, 4 * 16 * 36>;
#endif
// dS, or P.
#include "common/wgsl/matrix-memory.wgsl" (N = factors, SIZE = 320u)
#if FOR == key
// Of the columns: log-sum-exp, Δ, the first key seen, one past the last.
var<workgroup> columns: array<vec4<f32>, 32>;
#endif

@compute @workgroup_size($(THREADS))
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) id: u32) {
  let batch = group.z;
  let block0 = group.x * 64u;
  let subgroup = id / lanes;
  let lane = id % lanes;
  let row0 = block0 + subgroup * 16u;
  let busy = lane < 32u;
  let row = (lane / 2u) % 16u;
  let half = lane % 2u;
  let at_scores = subgroup * 576u + row * 36u + half * 16u;
  let at_factors = subgroup * 80u + row * 5u + half * 2u;
#if SPLIT
  let row_head = group.y / P.group;
#else
  let row_head = group.y;
#endif
  // The columns that meet any row.
  clear_range(id);
#if FOR == query
  let heads_from = group.y;
  let heads_to = group.y + 1u;
  let own_stats = stats(batch, row_head, row0 + row);
  let own_bounds = bounds(batch, row0 + row);
  if busy {
    widen(vec2<i32>(own_bounds));
  }
#else
#if SPLIT
  let heads_from = group.y;
  let heads_to = heads_from + 1u;
#else
  let heads_from = group.y * P.group;
  let heads_to = heads_from + P.group;
#endif
  for (var query = id; query < P.queries; query += $(THREADS)u) {
    let b = bounds(batch, query);
    if b.x < b.y && b.x < block0 + 64u && b.y > block0 {
      widen(vec2<i32>(i32(query), i32(query) + 1));
    }
  }
#endif
  let range = widest(id);
  let a_base = P.a_offset + batch * P.a_strides.x + row_head * P.a_strides.z;
#include "common/wgsl/attention-rows.wgsl" (N = a, FROM = block0, THROUGH = c_tile)
#if OF == gradients
  let b_base = P.b_offset + batch * P.b_strides.x + row_head * P.b_strides.z;
#include "common/wgsl/attention-rows.wgsl" (N = b, FROM = block0, THROUGH = c_tile)
#endif
#for d in 0..$(DK)
  var u_$(d) = subgroup_matrix_result<f32, 16, 16>();
#endfor
  let scale = P.scale * 1.4426950408889634;
  for (var head = heads_from; head < heads_to; head++) {
#if FOR == query
    let column_head = head / P.group;
#else
    let column_head = head;
#endif
    let c_base = P.c_offset + batch * P.c_strides.x + column_head * P.c_strides.z;
    let e_base = P.e_offset + batch * P.e_strides.x + column_head * P.e_strides.z;
    for (var key0 = range.x / 32u * 32u; key0 < range.y; key0 += 32u) {
#include "common/wgsl/attention-tile.wgsl" (N = c, FROM = key0, INTO = c_tile)
#include "common/wgsl/attention-tile.wgsl" (N = e, FROM = key0, INTO = e_tile)
#if FOR == key
      if id < 32u {
        columns[id] = vec4<f32>(stats(batch, head, key0 + id), vec2<f32>(bounds(batch, key0 + id)));
      }
#endif
      workgroupBarrier();
#include "common/wgsl/attention-scores.wgsl" (LEFT = a, RIGHT = c, INTO = scores)
#if OF == gradients
#include "common/wgsl/attention-scores.wgsl" (LEFT = b, RIGHT = e, INTO = slopes)
#endif
      workgroupBarrier();
      if busy {
        for (var part = 0u; part < 2u; part++) {
          var pairs: vec4<u32>;
#for p in 0..4
          {
            let i = part * 8u + $(p)u * 2u;
            let score = vec2<f32>(scores[at_scores + i], scores[at_scores + i + 1u]);
#if FOR == query
            let column = vec2<u32>(key0 + half * 16u + i) + vec2<u32>(0u, 1u);
            let shown = (column >= vec2<u32>(own_bounds.x)) & (column < vec2<u32>(own_bounds.y));
            let lse = vec2<f32>(own_stats.x);
            let delta = vec2<f32>(own_stats.y);
#else
            let one = columns[half * 16u + i];
            let two = columns[half * 16u + i + 1u];
            let key = vec2<f32>(f32(row0 + row));
            let shown = (key >= vec2<f32>(one.z, two.z)) & (key < vec2<f32>(one.w, two.w));
            let lse = vec2<f32>(one.x, two.x);
            let delta = vec2<f32>(one.y, two.y);
#endif
            let weight = select(vec2<f32>(), exp2(score * scale - lse), shown);
#if OF == gradients
            let slope = vec2<f32>(slopes[at_scores + i], slopes[at_scores + i + 1u]);
            pairs[$(p)] = pack2x16float(select(vec2<f32>(), weight * (slope - delta), shown));
#else
            pairs[$(p)] = pack2x16float(weight);
#endif
          }
#endfor
          factors_put(at_factors + part, pairs);
        }
      }
      workgroupBarrier();
#if OF == gradients
#define BY c
#else
#define BY e
#endif
#for n in 0..2
      {
        let factor = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&factors, (subgroup * 80u + $(n)u * 2u) * $(TILE_UNIT)u, 5u * $(TILE_UNIT)u);
#for d in 0..$(DK)
        {
          let value = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, row_major>(&$(BY)_tile, ($(n)u * 16u * row_step + $(d)u * 2u) * $(TILE_UNIT)u, row_step * $(TILE_UNIT)u);
          u_$(d) = subgroupMatrixMultiplyAccumulate(factor, value, u_$(d));
        }
#endfor
      }
#endfor
      workgroupBarrier();
    }
  }
#if OF == gradients
  let out_scale = P.scale;
#else
  let out_scale = 1.0;
#endif
  let from_scores = subgroup * 576u + row * 36u + half * 8u;
#if SPLIT
  let u_start = P.u_offset + (group.y % P.group) * P.batches * P.u_strides.x;
#else
  let u_start = P.u_offset;
#endif
  let u_base = u_start + batch * P.u_strides.x + (row0 + row) * P.u_strides.y + row_head * P.u_strides.z;
#for d in 0..$(DK)
  subgroupMatrixStore<row_major>(&scores, subgroup * 576u, u_$(d), 36u);
  workgroupBarrier();
  if busy {
#for q in 0..2
    {
      let at = from_scores + $(q)u * 4u;
      let four = out_scale * vec4<f32>(scores[at], scores[at + 1u], scores[at + 2u], scores[at + 3u]);
      u_put_quad(u_base + ($(d)u * 16u + half * 8u + $(q)u * 4u) * P.u_strides.w, four, 4u, P.u_strides.w);
    }
#endfor
  }
  workgroupBarrier();
#endfor
}
