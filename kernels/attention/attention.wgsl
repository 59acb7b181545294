// Attention that keeps its scores in workgroup memory (Dao et al. 2022). A workgroup of 128 invocations, 16 × 8, takes 16 · R queries of
// one head and walks the keys by 32: scores by chunks of 16 of the head's width, the running maximum and sum of each query, then the product
// with v by 8 keys. Scores are kept times log₂ e. DP: the head's width rounded up to 32; VC: keys of v at a time. R: 4 or 1.
#include "common/wgsl/numbers.wgsl"
#include "common/wgsl/operand.wgsl" (N = q)
#include "common/wgsl/block.wgsl" (N = q)
#include "common/wgsl/operand.wgsl" (N = k)
#include "common/wgsl/block.wgsl" (N = k)
#include "common/wgsl/operand.wgsl" (N = v)
#include "common/wgsl/block.wgsl" (N = v)
#include "common/wgsl/operand.wgsl" (N = y)
#include "common/wgsl/store-quad.wgsl" (N = y)
#include "common/wgsl/operand.wgsl" (N = lse)
#include "common/wgsl/visible.wgsl"

#include "common/wgsl/attention-params.wgsl"

const rows = 16u * $(R)u;
const row_blocks = rows / 4u;
// Chunks of q and k, then the maxima of rows, then rows of v, one after another.
var<workgroup> stage: array<vec4<f32>, $(STAGE)>;
#if R == 4
alias Row = vec4<f32>;
#else
alias Row = f32;
#endif
// Weights by key and invocation row.
var<workgroup> weights: array<Row, 32 * 16>;

@compute @workgroup_size(128)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) id: u32,
) {
  let batch = group.z;
  let head = group.y;
  let row0 = (groups.x - 1u - group.x) * rows; // the longest walks first
  let q_base = P.q_offset + batch * P.q_strides.x + head * P.q_strides.z;
  let k_base = P.k_offset + batch * P.k_strides.x + (head / P.group) * P.k_strides.z;
  let v_base = P.v_offset + batch * P.v_strides.x + (head / P.group) * P.v_strides.z;
  let tx = id % 8u;
  let ty = id / 8u;
  clear_range(id);
#for r in 0..$(R)
  let row_$(r) = row0 + ty * $(R)u + $(r)u;
  var seen_$(r) = vec2<i32>(0, 0);
  if row_$(r) < P.queries {
    seen_$(r) = visible(batch, row_$(r), P.queries, P.keys);
  }
  if tx == 0u {
    widen(seen_$(r));
  }
  var largest_$(r) = -3.0e38;
  var sum_$(r) = 0.0;
#for j in 0..$(DV)
  var out_$(r)_$(j) = vec4<f32>();
#endfor
#endfor
  let range = widest(id);
  for (var key0 = range.x / 32u * 32u; key0 < range.y; key0 += 32u) {
#for r in 0..$(R)
    var score_$(r) = vec4<f32>();
#endfor
    for (var d0 = 0u; d0 < P.width; d0 += 16u) {
      workgroupBarrier();
      if id < row_blocks * 4u {
        let block = q_block(q_base, row0 + id / 4u * 4u, P.queries, d0 + id % 4u * 4u, P.width, P.q_strides.y, P.q_strides.w);
#for j in 0..4
        stage[(id % 4u * 4u + $(j)u) * row_blocks + id / 4u] = block[$(j)];
#endfor
      } else if id - row_blocks * 4u < 32u {
        let i = id - row_blocks * 4u;
        let block = k_block(k_base, key0 + i / 4u * 4u, P.keys, d0 + i % 4u * 4u, P.width, P.k_strides.y, P.k_strides.w);
#for j in 0..4
        stage[16u * row_blocks + (i % 4u * 4u + $(j)u) * 8u + i / 4u] = block[$(j)];
#endfor
      }
      workgroupBarrier();
      for (var d = 0u; d < 16u; d++) {
        let b = stage[16u * row_blocks + d * 8u + tx];
#if R == 4
        let a = stage[d * row_blocks + ty];
#for r in 0..4
        score_$(r) = fma(vec4<f32>(a[$(r)]), b, score_$(r));
#endfor
#else
        score_0 = fma(vec4<f32>(stage[d * row_blocks + ty / 4u][ty % 4u]), b, score_0);
#endif
      }
    }
#for r in 0..$(R)
    score_$(r) *= P.scale * 1.4426950408889634;
    let in_$(r) = vec4<i32>(i32(key0 + tx * 4u)) + vec4<i32>(0, 1, 2, 3);
    let shown_$(r) = (in_$(r) >= vec4<i32>(seen_$(r).x)) & (in_$(r) < vec4<i32>(seen_$(r).y));
    let masked_$(r) = select(vec4<f32>(-3.0e38), score_$(r), shown_$(r));
    let high_$(r) = max(max(masked_$(r).x, masked_$(r).y), max(masked_$(r).z, masked_$(r).w));
#endfor
    workgroupBarrier();
#if R == 4
    stage[id] = vec4<f32>(high_0, high_1, high_2, high_3);
#else
    stage[id] = vec4<f32>(high_0);
#endif
    workgroupBarrier();
    var high = stage[ty * 8u];
    for (var i = 1u; i < 8u; i++) {
      high = max(high, stage[ty * 8u + i]);
    }
#for r in 0..$(R)
    let now_$(r) = max(largest_$(r), high[$(r)]);
    let shrink_$(r) = exp2(largest_$(r) - now_$(r));
    largest_$(r) = now_$(r);
    let weight_$(r) = select(vec4<f32>(), exp2(score_$(r) - now_$(r)), shown_$(r));
    sum_$(r) = sum_$(r) * shrink_$(r) + (weight_$(r).x + weight_$(r).y) + (weight_$(r).z + weight_$(r).w);
#for j in 0..$(DV)
    out_$(r)_$(j) *= shrink_$(r);
#endfor
#endfor
#for c in 0..4
#if R == 4
    weights[(tx * 4u + $(c)u) * 16u + ty] = Row(weight_0[$(c)], weight_1[$(c)], weight_2[$(c)], weight_3[$(c)]);
#else
    weights[(tx * 4u + $(c)u) * 16u + ty] = weight_0[$(c)];
#endif
#endfor
    for (var c0 = 0u; c0 < 32u; c0 += $(VC)u) {
      workgroupBarrier();
      for (var i = id; i < $(VC)u * ($(DP)u / 4u); i += 128u) {
        let key = i / ($(DP)u / 4u);
        let d = i % ($(DP)u / 4u) * 4u;
        stage[i] = v_quad(v_base, key0 + c0 + key, P.keys, d, P.width, P.v_strides.y, P.v_strides.w);
      }
      workgroupBarrier();
      for (var c = 0u; c < $(VC)u; c++) {
        let weight = weights[(c0 + c) * 16u + ty];
#for j in 0..$(DV)
        let v_$(j) = stage[c * ($(DP)u / 4u) + $(j)u * 8u + tx];
#endfor
#for r in 0..$(R)
#for j in 0..$(DV)
#if R == 4
        out_$(r)_$(j) = fma(vec4<f32>(weight[$(r)]), v_$(j), out_$(r)_$(j));
#else
        out_$(r)_$(j) = fma(vec4<f32>(weight), v_$(j), out_$(r)_$(j));
#endif
#endfor
#endfor
      }
    }
  }
  // The eight invocations of a row hold parts of its sum.
  workgroupBarrier();
#if R == 4
  stage[id] = vec4<f32>(sum_0, sum_1, sum_2, sum_3);
#else
  stage[id] = vec4<f32>(sum_0);
#endif
  workgroupBarrier();
  var total = stage[ty * 8u];
  for (var i = 1u; i < 8u; i++) {
    total += stage[ty * 8u + i];
  }
  let y_base = P.y_offset + batch * P.y_strides.x + head * P.y_strides.z;
#for r in 0..$(R)
  if row_$(r) < P.queries {
    let all = total[$(r)];
    let blind = seen_$(r).x >= seen_$(r).y;
    let factor = select(1.0 / all, 0.0, blind);
    if tx == 0u {
      let at = P.lse_offset + batch * P.lse_strides.x + head * P.lse_strides.y + row_$(r) * P.lse_strides.z;
      // Weights are at most 1: an infinite sum is a NaN score that exp2 did not pass on.
      let log_all = select(largest_$(r) * 0.6931471805599453 + logarithm(all), not_a_number(), all > 3e38);
      lse_store(at, select(log_all, -infinity(), blind));
    }
    for (var j = 0u; j < $(DV)u; j++) {
      var out: vec4<f32>;
      switch j {
#for j in 0..$(DV)
        case $(j)u: {
          out = out_$(r)_$(j);
        }
#endfor
        default: {
        }
      }
      let d = (j * 8u + tx) * 4u;
      if d < P.width {
        let at = y_base + row_$(r) * P.y_strides.y + d * P.y_strides.w;
        y_put_quad(at, out * factor, min(4u, P.width - d), P.y_strides.w);
      }
    }
  }
#endfor
}
