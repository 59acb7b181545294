// As matrix.wgsl, with keys by 64: four subgroups of 16 queries, whose keys and values pass through one tile in turn. What comes next is asked for
// while the tile at hand is multiplied; half the barriers a key, and memory for two workgroups more.
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
const row_vectors = $(DK)u * 2u;
const row_step = row_vectors + 1u;
#include "common/wgsl/matrix-memory.wgsl" (N = tile, SIZE = 64u * row_step)
// Rows of 64 scores, 68 apart, for each subgroup; of weights, nine vectors apart.
var<workgroup> scores: array<f32, 4 * 16 * 68>;
#include "common/wgsl/matrix-memory.wgsl" (N = weights, SIZE = 576u)
var<workgroup> raised: atomic<u32>;

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
  let row = (lane / 2u) % 16u;
  let half = lane % 2u;
  let at_scores = subgroup * 1088u + row * 68u + half * 32u;
  let at_weights = subgroup * 144u + row * 9u + half * 4u;
  clear_range(id);
  let seen = visible(batch, row0 + row, P.queries, P.keys);
  if busy && half == 0u {
    widen(seen);
  }
  let range = widest(id);
#include "common/wgsl/attention-rows.wgsl" (N = q, FROM = row0 - subgroup * 16u, THROUGH = tile)
#for d in 0..$(DK)
  var out_$(d) = subgroup_matrix_result<f32, 16, 16>();
#endfor
#for l in 0..$(NEXT)
  var next_$(l): vec4<u32>;
#endfor
  let scale = P.scale * 1.4426950408889634;
  var reference = -3.0e38;
  var sum = 0.0;
  if id == 0u {
    atomicStore(&raised, 0u);
  }
  let first = range.x / 64u * 64u;
  if first < range.y {
#include "common/wgsl/attention-next.wgsl" (N = k, FROM = first)
#include "common/wgsl/attention-put.wgsl"
  }
  for (var key0 = first; key0 < range.y; key0 += 64u) {
    workgroupBarrier();
#include "common/wgsl/attention-next.wgsl" (N = v, FROM = key0)
#for n in 0..4
    {
      var score = subgroup_matrix_result<f32, 16, 16>();
#for d in 0..$(DK)
      {
        let column = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, col_major>(&tile, ($(n)u * 16u * row_step + $(d)u * 2u) * $(TILE_UNIT)u, row_step * $(TILE_UNIT)u);
        score = subgroupMatrixMultiplyAccumulate(q_$(d), column, score);
      }
#endfor
      subgroupMatrixStore<row_major>(&scores, subgroup * 1088u + $(n)u * 16u, score, 68u);
    }
#endfor
    workgroupBarrier();
#include "common/wgsl/attention-put.wgsl"
#for q in 0..8
    var score_$(q) = vec4<f32>(-3.0e38);
#endfor
    var shrink = 1.0;
    if busy {
      var most = -3.0e38;
#for q in 0..8
      {
        let at = at_scores + $(q)u * 4u;
        let key = vec4<i32>(i32(key0 + half * 32u + $(q)u * 4u)) + vec4<i32>(0, 1, 2, 3);
        let shown = (key >= vec4<i32>(seen.x)) & (key < vec4<i32>(seen.y));
        let four = scale * vec4<f32>(scores[at], scores[at + 1u], scores[at + 2u], scores[at + 3u]);
        score_$(q) = select(vec4<f32>(-3.0e38), four, shown);
        most = max(most, max(max(score_$(q).x, score_$(q).y), max(score_$(q).z, score_$(q).w)));
      }
#endfor
      most = max(most, subgroupShuffleXor(most, 1u));
      if most > reference + 8.0 {
        // Nothing was summed before the first reference.
        if reference > -3.0e38 {
          atomicStore(&raised, 1u);
        }
        shrink = exp2(reference - most);
        reference = most;
      }
      sum *= shrink;
#for part in 0..4
      {
        let low = select(vec4<f32>(), exp2(score_$(LOW_$(part)) - reference), score_$(LOW_$(part)) > vec4<f32>(-2.9e38));
        let high = select(vec4<f32>(), exp2(score_$(HIGH_$(part)) - reference), score_$(HIGH_$(part)) > vec4<f32>(-2.9e38));
        sum += ((low.x + low.y) + (low.z + low.w)) + ((high.x + high.y) + (high.z + high.w));
        weights_put(at_weights + $(part)u, vec4<u32>(pack2x16float(low.xy), pack2x16float(low.zw), pack2x16float(high.xy), pack2x16float(high.zw)));
      }
#endfor
    }
    // Waits for the weights and the values, too.
    if workgroupUniformLoad(&raised) != 0u {
#for d in 0..$(DK)
      subgroupMatrixStore<row_major>(&scores, subgroup * 1088u, out_$(d), 68u);
      workgroupBarrier();
      if busy {
        for (var i = 0u; i < 8u; i++) {
          scores[subgroup * 1088u + row * 68u + half * 8u + i] *= shrink;
        }
      }
      workgroupBarrier();
      out_$(d) = subgroupMatrixLoad<subgroup_matrix_result<f32, 16, 16>, row_major>(&scores, subgroup * 1088u, 68u);
      workgroupBarrier();
#endfor
    }
    if id == 0u {
      atomicStore(&raised, 0u);
    }
    if key0 + 64u < range.y {
#include "common/wgsl/attention-next.wgsl" (N = k, FROM = key0 + 64u)
    }
#for n in 0..4
    {
      let weight = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&weights, (subgroup * 144u + $(n)u * 2u) * $(TILE_UNIT)u, 9u * $(TILE_UNIT)u);
#for d in 0..$(DK)
      {
        let value = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, row_major>(&tile, ($(n)u * 16u * row_step + $(d)u * 2u) * $(TILE_UNIT)u, row_step * $(TILE_UNIT)u);
        out_$(d) = subgroupMatrixMultiplyAccumulate(weight, value, out_$(d));
      }
#endfor
    }
#endfor
    workgroupBarrier();
#include "common/wgsl/attention-put.wgsl"
  }
  let all = sum + subgroupShuffleXor(sum, 1u);
  let blind = seen.x >= seen.y;
  // Weights are at most 2⁸: an infinite sum is a NaN score that exp2 did not pass on.
  let log_all = select((reference + log2(all)) * 0.6931471805599453, not_a_number(), all > 3e38 || is_nan(all));
  let factor = select(select(1.0 / all, not_a_number(), all > 3e38), 0.0, blind);
  if busy && half == 0u {
    let at = P.lse_offset + batch * P.lse_strides.x + head * P.lse_strides.y + (row0 + row) * P.lse_strides.z;
    lse_store(at, select(log_all, -infinity(), blind));
  }
  let y_base = P.y_offset + batch * P.y_strides.x + head * P.y_strides.z + (row0 + row) * P.y_strides.y;
#for d in 0..$(DK)
  subgroupMatrixStore<row_major>(&scores, subgroup * 1088u, out_$(d), 68u);
  workgroupBarrier();
  if busy {
    let from_scores = subgroup * 1088u + row * 68u + half * 8u;
#for e in 0..2
    {
      let at = from_scores + $(e)u * 4u;
      let four = factor * vec4<f32>(scores[at], scores[at + 1u], scores[at + 2u], scores[at + 3u]);
      y_put_quad(y_base + ($(d)u * 16u + half * 8u + $(e)u * 4u) * P.y_strides.w, four, 4u, P.y_strides.w);
    }
#endfor
  }
  workgroupBarrier();
#endfor
}
