// y = alpha · left · right + beta · c on subgroup matrices: f16 in, sums in f32. A workgroup of eight subgroups takes 128 × 128 of y, two by
// four, each 64 × 32 as 4 × 2 matrices of 16 × 16, and walks the inner axis by 32. Tiles lie in workgroup memory as they lie in memory:
// rows of 32 along the inner axis (INNER), or inner index first; each row has 16 bytes more, which spreads it over the banks. The next tiles
// are asked for while the present ones are multiplied. EXTRA, SPLITS and Params: as in tiles.wgsl.
// OFFSET_UNIT and STRIDE_UNIT: how many vectors, or numbers, the load function counts by; found out by trial.
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
const lanes = threads / 8u;
// Vectors of eight f16 a row of a tile, and in all.
#if LEFT_INNER
const left_row = 5u;
const left_size = 128u * 5u;
#else
const left_row = 17u;
const left_size = 32u * 17u;
#endif
#if RIGHT_INNER
const right_row = 5u;
const right_size = 128u * 5u;
#else
const right_row = 17u;
const right_size = 32u * 17u;
#endif
const loads = 512u / threads;

var<workgroup> left_tile: array<vec4<u32>, left_size>;
var<workgroup> right_tile: array<vec4<u32>, right_size>;
var<workgroup> results: array<f32, 8 * 256>;
var<private> a_base: u32;
var<private> b_base: u32;

// Row (of 128) and inner index (of 32) of vector i of a tile.
fn left_place(i: u32) -> vec2<u32> {
#if LEFT_INNER
  return vec2<u32>(i / 4u, i % 4u * 8u);
#else
  return vec2<u32>(i % 16u * 8u, i / 16u);
#endif
}

fn right_place(i: u32) -> vec2<u32> {
#if RIGHT_INNER
  return vec2<u32>(i / 4u, i % 4u * 8u);
#else
  return vec2<u32>(i % 16u * 8u, i / 16u);
#endif
}

fn left_slot(i: u32) -> u32 {
#if LEFT_INNER
  return (i / 4u) * left_row + i % 4u;
#else
  return (i / 16u) * left_row + i % 16u;
#endif
}

fn right_slot(i: u32) -> u32 {
#if RIGHT_INNER
  return (i / 4u) * right_row + i % 4u;
#else
  return (i / 16u) * right_row + i % 16u;
#endif
}

@compute @workgroup_size($(THREADS))
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) id: u32) {
  let split = group.z % P.splits;
  let both = group.z / P.splits;
  let batch = vec2<u32>(both / P.batch, both % P.batch);
  a_base = P.a_offset + dot(batch, P.a_batch);
  b_base = P.b_offset + dot(batch, P.b_batch);
  let n0 = group.x * 128u;
  let m0 = group.y * 128u;
  let subgroup = id / lanes;
  let lane = id % lanes;
  let m1 = (subgroup / 4u) * 64u;
  let n1 = (subgroup % 4u) * 32u;
#for i in 0..4
#for j in 0..2
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
#for i in 0..4
#for j in 0..2
  workgroupBarrier();
  subgroupMatrixStore<row_major>(&results, subgroup * 256u, sum_$(i)_$(j), 16u);
  workgroupBarrier();
  for (var q = lane; q < 64u; q += lanes) {
    let at = subgroup * 256u + q * 4u;
    put(
      y_base,
      c_base,
      m0 + m1 + $(i)u * 16u + q / 4u,
      n0 + n1 + $(j)u * 16u + q % 4u * 4u,
      vec4<f32>(results[at], results[at + 1u], results[at + 2u], results[at + 3u]),
    );
  }
#endfor
#endfor
}
