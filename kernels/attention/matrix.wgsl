// Attention on subgroup matrices: f16, queries a multiple of 64, keys of 32, the head's width W = 16 · DK. A workgroup of four subgroups
// takes 64 queries of one head, 16 each, and walks the keys by 32, twice: first for the maximum and the sum of each query, then for the
// product with v, whose weights are then final, so that no sum in a matrix need be scaled. Matrices come straight from memory; scores pass
// through workgroup memory, where two invocations share a row of 32.
enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;
diagnostic(off, chromium.subgroup_matrix_uniformity);
diagnostic(off, subgroup_uniformity);

#include "common/wgsl/numbers.wgsl"
#include "common/wgsl/operand.wgsl" (N = q)
#include "common/wgsl/operand.wgsl" (N = k)
#include "common/wgsl/operand.wgsl" (N = v)
#include "common/wgsl/operand.wgsl" (N = y)
#include "common/wgsl/store-quad.wgsl" (N = y)
#include "common/wgsl/operand.wgsl" (N = lse)
#include "common/wgsl/visible.wgsl"
#include "common/wgsl/attention-params.wgsl"

const lanes = $(THREADS)u / 4u;
// Rows of 32 scores, 36 apart, for each subgroup; of weights, five vectors apart.
var<workgroup> scores: array<f32, 4 * 16 * 36>;
var<workgroup> weights: array<vec4<u32>, 4 * 16 * 5>;

@compute @workgroup_size($(THREADS))
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) id: u32,
) {
  let batch = group.z;
  let head = group.y;
  let subgroup = id / lanes;
  let lane = id % lanes;
  let row0 = (groups.x - 1u - group.x) * 64u + subgroup * 16u;
  let q_base = P.q_offset + batch * P.q_strides.x + head * P.q_strides.z;
  let k_base = P.k_offset + batch * P.k_strides.x + (head / P.group) * P.k_strides.z;
  let v_base = P.v_offset + batch * P.v_strides.x + (head / P.group) * P.v_strides.z;
  // Two invocations a row; more than 32 idle.
  let busy = lane < 32u;
  let own = row0 + (lane / 2u) % 16u;
  let half = lane % 2u;
  let at_scores = subgroup * 576u + ((lane / 2u) % 16u) * 36u + half * 16u;
  let at_weights = subgroup * 80u + ((lane / 2u) % 16u) * 5u + half * 2u;
  clear_range(id);
  let seen = visible(batch, own, P.queries, P.keys);
  if busy && half == 0u {
    widen(seen);
  }
  let range = widest(id);
#for d in 0..$(DK)
  let q_$(d) = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&$(q_BUFFER), ((q_base + row0 * P.q_strides.y + $(d)u * 16u) / 8u) * $(OFFSET_UNIT)u, (P.q_strides.y / 8u) * $(STRIDE_UNIT)u);
#endfor
  let scale = P.scale * 1.4426950408889634;
  var largest = -3.0e38;
  var sum = 0.0;
  for (var key0 = range.x / 32u * 32u; key0 < range.y; key0 += 32u) {
#include "common/wgsl/attention-scores.wgsl" (LEFT = q, RIGHT = k, INTO = scores)
    workgroupBarrier();
    if busy {
      var now = largest;
      for (var i = 0u; i < 16u; i++) {
        let key = i32(key0 + half * 16u + i);
        if key >= seen.x && key < seen.y {
          now = max(now, scores[at_scores + i] * scale);
        }
      }
      sum *= exp2(largest - now);
      largest = now;
      for (var i = 0u; i < 16u; i++) {
        let key = i32(key0 + half * 16u + i);
        if key >= seen.x && key < seen.y {
          sum += exp2(scores[at_scores + i] * scale - now);
        }
      }
    }
    workgroupBarrier();
  }
  let other_largest = subgroupShuffleXor(largest, 1u);
  let other_sum = subgroupShuffleXor(sum, 1u);
  let top = max(largest, other_largest);
  let all = sum * exp2(largest - top) + other_sum * exp2(other_largest - top);
  let blind = seen.x >= seen.y;
  // Weights are at most 1: an infinite sum is a NaN score that exp2 did not pass on.
  let log_all = select(top + log2(all), not_a_number(), all > 3e38);
  if busy && half == 0u {
    let at = P.lse_offset + batch * P.lse_strides.x + head * P.lse_strides.y + own * P.lse_strides.z;
    lse_store(at, select(log_all * 0.6931471805599453, -infinity(), blind));
  }
#for d in 0..$(DK)
  var out_$(d) = subgroup_matrix_result<f32, 16, 16>();
#endfor
  for (var key0 = range.x / 32u * 32u; key0 < range.y; key0 += 32u) {
#include "common/wgsl/attention-scores.wgsl" (LEFT = q, RIGHT = k, INTO = scores)
    workgroupBarrier();
    if busy {
      for (var part = 0u; part < 2u; part++) {
        var pairs: vec4<u32>;
#for e in 0..4
        {
          let i = part * 8u + $(e)u * 2u;
          let key = i32(key0 + half * 16u + i);
          let both = vec2<f32>(scores[at_scores + i], scores[at_scores + i + 1u]);
          let shown = (vec2<i32>(key, key + 1) >= vec2<i32>(seen.x)) & (vec2<i32>(key, key + 1) < vec2<i32>(seen.y));
          pairs[$(e)] = pack2x16float(select(vec2<f32>(), exp2(both * scale - log_all), shown));
        }
#endfor
        weights[at_weights + part] = pairs;
      }
    }
    workgroupBarrier();
#for n in 0..2
    {
      let weight = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&weights, (subgroup * 80u + $(n)u * 2u) * $(OFFSET_UNIT)u, 5u * $(STRIDE_UNIT)u);
#for d in 0..$(DK)
      {
        let value = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, row_major>(&$(v_BUFFER), ((v_base + (key0 + $(n)u * 16u) * P.v_strides.y + $(d)u * 16u) / 8u) * $(OFFSET_UNIT)u, (P.v_strides.y / 8u) * $(STRIDE_UNIT)u);
        out_$(d) = subgroupMatrixMultiplyAccumulate(weight, value, out_$(d));
      }
#endfor
    }
#endfor
  }
  let y_base = P.y_offset + batch * P.y_strides.x + head * P.y_strides.z + own * P.y_strides.y;
#for d in 0..$(DK)
  workgroupBarrier();
  subgroupMatrixStore<row_major>(&scores, subgroup * 576u, out_$(d), 36u);
  workgroupBarrier();
  if busy {
    let from_scores = subgroup * 576u + ((lane / 2u) % 16u) * 36u + half * 8u;
#for e in 0..2
    {
      let at = from_scores + $(e)u * 4u;
      let four = vec4<f32>(scores[at], scores[at + 1u], scores[at + 2u], scores[at + 3u]);
      y_put_quad(y_base + ($(d)u * 16u + half * 8u + $(e)u * 4u) * P.y_strides.w, four, 4u, P.y_strides.w);
    }
#endfor
  }
#endfor
}
