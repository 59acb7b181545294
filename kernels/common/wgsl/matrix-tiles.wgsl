// y = alpha · left · right + beta · c on subgroup matrices: f16 in, sums in f32. A workgroup of SUB_M by SUB_N subgroups takes BM × BN of y, each
// subgroup IM × JN matrices of 16 × 16, and walks the inner axis by BK. Tiles lie in workgroup memory as they lie in memory: rows of BK along
// the inner axis (INNER), or inner index first; each row has 16 bytes more, which spreads it over the banks. The next tiles are asked for while
// the present ones are multiplied. STAGES, EXTRA, SPLITS and Params: as in tiles.wgsl.
enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;
diagnostic(off, chromium.subgroup_matrix_uniformity);

#include "common/wgsl/numbers.wgsl"
#include "common/wgsl/operand.wgsl" (N = y)
#include "common/wgsl/store-quad.wgsl" (N = y)
#if ADDS
#include "common/wgsl/operand.wgsl" (N = c)
#endif
#include "common/wgsl/product-params.wgsl"

const threads = $(THREADS)u;
const lanes = threads / ($(SUB_M)u * $(SUB_N)u);
// Vectors of eight f16 in a row of a tile, with the one that is not used, and in a tile.
#if LEFT_INNER
const left_vectors = $(BK)u / 8u;
const left_size = $(BM)u * (left_vectors + 1u);
#else
const left_vectors = $(BM)u / 8u;
const left_size = $(BK)u * (left_vectors + 1u);
#endif
#if RIGHT_INNER
const right_vectors = $(BK)u / 8u;
const right_size = $(BN)u * (right_vectors + 1u);
#else
const right_vectors = $(BN)u / 8u;
const right_size = $(BK)u * (right_vectors + 1u);
#endif
const left_row = left_vectors + 1u;
const right_row = right_vectors + 1u;

#include "common/wgsl/matrix-memory.wgsl" (N = left_tile, SIZE = $(STAGES)u * left_size)
#include "common/wgsl/matrix-memory.wgsl" (N = right_tile, SIZE = $(STAGES)u * right_size)
// ROUND matrices of each subgroup on their way out.
var<workgroup> results: array<f32, $(SUB_M)u * $(SUB_N)u * $(ROUND)u * 256u>;
var<private> a_base: u32;
var<private> b_base: u32;

// Row and inner index of vector i of a tile.
fn left_place(i: u32) -> vec2<u32> {
#if LEFT_INNER
  return vec2<u32>(i / left_vectors, i % left_vectors * 8u);
#else
  return vec2<u32>(i % left_vectors * 8u, i / left_vectors);
#endif
}

fn right_place(i: u32) -> vec2<u32> {
#if RIGHT_INNER
  return vec2<u32>(i / right_vectors, i % right_vectors * 8u);
#else
  return vec2<u32>(i % right_vectors * 8u, i / right_vectors);
#endif
}

fn left_slot(i: u32) -> u32 {
  return (i / left_vectors) * left_row + i % left_vectors;
}

fn right_slot(i: u32) -> u32 {
  return (i / right_vectors) * right_row + i % right_vectors;
}

@compute @workgroup_size($(THREADS))
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) id: u32) {
  let split = group.z % P.splits;
  let both = group.z / P.splits;
  let batch = vec2<u32>(both / P.batch, both % P.batch);
  a_base = P.a_offset + dot(batch, P.a_batch);
  b_base = P.b_offset + dot(batch, P.b_batch);
  let n0 = group.x * $(BN)u;
  let m0 = group.y * $(BM)u;
  let subgroup = id / lanes;
  let lane = id % lanes;
  let m1 = (subgroup / $(SUB_N)u) * ($(IM)u * 16u);
  let n1 = (subgroup % $(SUB_N)u) * ($(JN)u * 16u);
#for i in 0..$(IM)
#for j in 0..$(JN)
  var sum_$(i)_$(j) = subgroup_matrix_result<f32, 16, 16>();
#endfor
#endfor
  prepare(id);
  let first = split * P.range;
  let last = min(P.k, first + P.range);
#include "common/wgsl/matrix-product.wgsl" (LEFT = left, RIGHT = right, START = first, END = last)
#if EXTRA
  let k2 = select(0u, P.k2, split == 0u);
#include "common/wgsl/matrix-product.wgsl" (LEFT = left2, RIGHT = right2, START = 0u, END = k2)
#endif
  let y_base = P.y_offset + dot(batch, P.y_batch) + split * P.y_split;
  let c_base = P.c_offset + dot(batch, P.c_batch);
#for i in 0..$(IM)
#for half in 0..$(ROUNDS)
  workgroupBarrier();
#for r in 0..$(ROUND)
  subgroupMatrixStore<row_major>(&results, (subgroup * $(ROUND)u + $(r)u) * 256u, sum_$(i)_$(COLUMN_$(half)_$(r)), 16u);
#endfor
  workgroupBarrier();
  for (var q = lane; q < 64u * $(ROUND)u; q += lanes) {
    let at = subgroup * $(ROUND)u * 256u + q * 4u;
    put(
      y_base,
      c_base,
      m0 + m1 + $(i)u * 16u + q % 64u / 4u,
      n0 + n1 + ($(half)u * $(ROUND)u + q / 64u) * 16u + q % 4u * 4u,
      vec4<f32>(results[at], results[at + 1u], results[at + 2u], results[at + 3u]),
    );
  }
#endfor
#endfor
}
