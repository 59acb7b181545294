// As attention-backward.wgsl, on subgroup matrices: f16, rows a multiple of 64, columns of 32, width 16 · DK. Four subgroups of 16 rows; the
// columns go by 32. FOR query: a: q, b: dy, c: k, e: v, and u: dq. FOR key: a: k, b: v, c: q, e: dy, u: dk, x: dv.
enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;
diagnostic(off, chromium.subgroup_matrix_uniformity);

#include "common/wgsl/numbers.wgsl"
#include "common/wgsl/operand.wgsl" (N = a)
#include "common/wgsl/operand.wgsl" (N = b)
#include "common/wgsl/operand.wgsl" (N = c)
#include "common/wgsl/operand.wgsl" (N = e)
#include "common/wgsl/operand.wgsl" (N = z)
#include "common/wgsl/operand.wgsl" (N = u)
#include "common/wgsl/store-quad.wgsl" (N = u)
#if FOR == key
#include "common/wgsl/operand.wgsl" (N = x)
#include "common/wgsl/store-quad.wgsl" (N = x)
#endif
#include "common/wgsl/attention-backward-params.wgsl"

const lanes = $(THREADS)u / 4u;
var<workgroup> scores: array<f32, 4 * 16 * 36>;
var<workgroup> slopes: array<f32, 4 * 16 * 36>;
// dS, and for keys P.
var<workgroup> gradients: array<vec4<u32>, 4 * 16 * 5>;
#if FOR == key
var<workgroup> weights: array<vec4<u32>, 4 * 16 * 5>;
// Of the columns: log-sum-exp, Δ, the first key seen, one past the last.
var<workgroup> columns: array<vec4<f32>, 32>;
#endif
var<workgroup> meeting: atomic<u32>;
var<workgroup> found: u32;

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
  let at_weights = subgroup * 80u + row * 5u + half * 2u;
  let row_head = group.y;
#if FOR == query
  let column_count = P.keys;
  let heads_from = group.y;
  let heads_to = group.y + 1u;
  let own_stats = stats(batch, row_head, row0 + row);
  let own_bounds = bounds(batch, row0 + row);
#else
  let column_count = P.queries;
  let heads_from = group.y * P.group;
  let heads_to = heads_from + P.group;
#endif
  let a_base = P.a_offset + batch * P.a_strides.x + row_head * P.a_strides.z;
  let b_base = P.b_offset + batch * P.b_strides.x + row_head * P.b_strides.z;
#for d in 0..$(DK)
  var u_$(d) = subgroup_matrix_result<f32, 16, 16>();
#if FOR == key
  var x_$(d) = subgroup_matrix_result<f32, 16, 16>();
#endif
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
    for (var key0 = 0u; key0 < column_count; key0 += 32u) {
      // Does any query of the tile see any key of it?
      if id == 0u {
        atomicStore(&meeting, 0u);
      }
      workgroupBarrier();
#if FOR == query
      if busy && own_bounds.x < own_bounds.y && own_bounds.x < key0 + 32u && own_bounds.y > key0 {
        atomicStore(&meeting, 1u);
      }
#else
      if id < 32u {
        let s = stats(batch, head, key0 + id);
        let b = bounds(batch, key0 + id);
        columns[id] = vec4<f32>(s, vec2<f32>(b));
        if b.x < b.y && b.x < block0 + 64u && b.y > block0 {
          atomicStore(&meeting, 1u);
        }
      }
#endif
      workgroupBarrier();
      if id == 0u {
        found = atomicLoad(&meeting);
      }
      let any = workgroupUniformLoad(&found);
      if any == 0u {
        continue;
      }
      {
#for d in 0..$(DK)
        let a_$(d) = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&$(a_BUFFER), ((a_base + row0 * P.a_strides.y + $(d)u * 16u) / 8u) * $(OFFSET_UNIT)u, (P.a_strides.y / 8u) * $(STRIDE_UNIT)u);
#endfor
#include "common/wgsl/attention-scores.wgsl" (LEFT = a, RIGHT = c, INTO = scores)
    workgroupBarrier();
      }
      {
#for d in 0..$(DK)
        let b_$(d) = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&$(b_BUFFER), ((b_base + row0 * P.b_strides.y + $(d)u * 16u) / 8u) * $(OFFSET_UNIT)u, (P.b_strides.y / 8u) * $(STRIDE_UNIT)u);
#endfor
#include "common/wgsl/attention-scores.wgsl" (LEFT = b, RIGHT = e, INTO = slopes)
    workgroupBarrier();
      }
      if busy {
        for (var part = 0u; part < 2u; part++) {
          var gradient_pairs: vec4<u32>;
#if FOR == key
          var weight_pairs: vec4<u32>;
#endif
#for p in 0..4
          {
            let i = part * 8u + $(p)u * 2u;
            let score = vec2<f32>(scores[at_scores + i], scores[at_scores + i + 1u]);
            let slope = vec2<f32>(slopes[at_scores + i], slopes[at_scores + i + 1u]);
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
            gradient_pairs[$(p)] = pack2x16float(select(vec2<f32>(), weight * (slope - delta), shown));
#if FOR == key
            weight_pairs[$(p)] = pack2x16float(weight);
#endif
          }
#endfor
          gradients[at_weights + part] = gradient_pairs;
#if FOR == key
          weights[at_weights + part] = weight_pairs;
#endif
        }
      }
      workgroupBarrier();
#for n in 0..2
      {
        let gradient = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&gradients, (subgroup * 80u + $(n)u * 2u) * $(OFFSET_UNIT)u, 5u * $(STRIDE_UNIT)u);
#for d in 0..$(DK)
        {
          let value = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, row_major>(&$(c_BUFFER), ((c_base + (key0 + $(n)u * 16u) * P.c_strides.y + $(d)u * 16u) / 8u) * $(OFFSET_UNIT)u, (P.c_strides.y / 8u) * $(STRIDE_UNIT)u);
          u_$(d) = subgroupMatrixMultiplyAccumulate(gradient, value, u_$(d));
        }
#endfor
#if FOR == key
        let weight = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&weights, (subgroup * 80u + $(n)u * 2u) * $(OFFSET_UNIT)u, 5u * $(STRIDE_UNIT)u);
#for d in 0..$(DK)
        {
          let value = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, row_major>(&$(e_BUFFER), ((e_base + (key0 + $(n)u * 16u) * P.e_strides.y + $(d)u * 16u) / 8u) * $(OFFSET_UNIT)u, (P.e_strides.y / 8u) * $(STRIDE_UNIT)u);
          x_$(d) = subgroupMatrixMultiplyAccumulate(weight, value, x_$(d));
        }
#endfor
#endif
      }
#endfor
      workgroupBarrier();
    }
  }
  let from_scores = subgroup * 576u + row * 36u + half * 8u;
  let u_base = P.u_offset + batch * P.u_strides.x + (row0 + row) * P.u_strides.y + row_head * P.u_strides.z;
#for d in 0..$(DK)
  workgroupBarrier();
  subgroupMatrixStore<row_major>(&scores, subgroup * 576u, u_$(d), 36u);
  workgroupBarrier();
  if busy {
#for q in 0..2
    {
      let at = from_scores + $(q)u * 4u;
      let four = P.scale * vec4<f32>(scores[at], scores[at + 1u], scores[at + 2u], scores[at + 3u]);
      u_put_quad(u_base + ($(d)u * 16u + half * 8u + $(q)u * 4u) * P.u_strides.w, four, 4u, P.u_strides.w);
    }
#endfor
  }
#endfor
#if FOR == key
  let x_base = P.x_offset + batch * P.x_strides.x + (row0 + row) * P.x_strides.y + row_head * P.x_strides.z;
#for d in 0..$(DK)
  workgroupBarrier();
  subgroupMatrixStore<row_major>(&scores, subgroup * 576u, x_$(d), 36u);
  workgroupBarrier();
  if busy {
#for q in 0..2
    {
      let at = from_scores + $(q)u * 4u;
      let four = vec4<f32>(scores[at], scores[at + 1u], scores[at + 2u], scores[at + 3u]);
      x_put_quad(x_base + ($(d)u * 16u + half * 8u + $(q)u * 4u) * P.x_strides.w, four, 4u, P.x_strides.w);
    }
#endfor
  }
#endfor
#endif
}
