// Dense operands a [m, k] and b [n, k] by tiles in registers alone: TM × TN an invocation, which reads both through the device's caches, four
// inner indices a round. No workgroup memory, no barriers. SPLITS, EXTRA and Params: as in tiles.wgsl.
#include "common/wgsl/numbers.wgsl"
#include "common/wgsl/operand.wgsl" (N = y)
#include "common/wgsl/store-quad.wgsl" (N = y)
#if ADDS
#include "common/wgsl/operand.wgsl" (N = c)
#endif
#include "common/wgsl/product-params.wgsl"
#include "common/wgsl/operand.wgsl" (N = a)
#include "common/wgsl/block.wgsl" (N = a)
#include "common/wgsl/operand.wgsl" (N = b)
#include "common/wgsl/block.wgsl" (N = b)
#include "common/wgsl/tiles-extra.wgsl"

@compute @workgroup_size($(THREADS))
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) id: u32) {
  let split = group.z % P.splits;
  let both = group.z / P.splits;
  let batch = vec2<u32>(both / P.batch, both % P.batch);
  let a_base = P.a_offset + dot(batch, P.a_batch);
  let b_base = P.b_offset + dot(batch, P.b_batch);
  let n0 = group.x * $(BN)u;
  let m0 = group.y * $(BM)u;
#if SQUARE
  let tx = id / 32u % ($(BN)u / $(TN)u / 8u) * 8u + id % 8u;
  let ty = id / 32u / ($(BN)u / $(TN)u / 8u) * 4u + id / 8u % 4u;
#else
  let tx = id % ($(BN)u / $(TN)u);
  let ty = id / ($(BN)u / $(TN)u);
#endif
#for g in 0..$(TMV)
  let row_$(g) = m0 + (ty + $(g)u * ($(BM)u / $(TM)u)) * 4u;
#endfor
#for j in 0..$(TNV)
  let column_$(j) = n0 + (tx + $(j)u * ($(BN)u / $(TN)u)) * 4u;
#endfor
#for i in 0..$(TM)
#for j in 0..$(TNV)
  var sum_$(i)_$(j) = vec4<f32>();
#endfor
#endfor
  let last = min(P.k, (split + 1u) * P.range);
  var k = split * P.range;
  if m0 + $(BM)u <= P.m && n0 + $(BN)u <= P.n {
    for (; k + 4u <= last; k += 4u) {
#for g in 0..$(TMV)
      let a$(g) = a_whole(a_base, row_$(g), k, P.a_row, P.a_k);
#endfor
#for j in 0..$(TNV)
      let b$(j) = b_whole(b_base, column_$(j), k, P.b_row, P.b_k);
#endfor
#include "common/wgsl/direct-round.wgsl"
    }
  }
  for (; k < last; k += 4u) {
#for g in 0..$(TMV)
    let a$(g) = a_block(a_base, row_$(g), P.m, k, last, P.a_row, P.a_k);
#endfor
#for j in 0..$(TNV)
    let b$(j) = b_block(b_base, column_$(j), P.n, k, last, P.b_row, P.b_k);
#endfor
#include "common/wgsl/direct-round.wgsl"
  }
#if EXTRA
  for (var k2 = 0u; k2 < select(0u, P.k2, split == 0u); k2 += 4u) {
#for g in 0..$(TMV)
    let a$(g) = left2(row_$(g), k2, P.k2);
#endfor
#for j in 0..$(TNV)
    let b$(j) = right2(column_$(j), k2, P.k2);
#endfor
#include "common/wgsl/direct-round.wgsl"
  }
#endif
  let y_base = P.y_offset + dot(batch, P.y_batch) + split * P.y_split;
  let c_base = P.c_offset + dot(batch, P.c_batch);
#for i in 0..$(TM)
#for j in 0..$(TNV)
  put(y_base, c_base, row_$(VECTOR_OF_$(i)) + $(i)u % 4u, column_$(j), sum_$(i)_$(j));
#endfor
#endfor
}
