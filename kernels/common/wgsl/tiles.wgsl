// y = alpha · left · right + beta · c by tiles of BM × BN: a workgroup of THREADS invocations keeps the tile in registers, TM × TN each, and
// walks the inner axis by BK. Blocks of 4 × 4 elements come through `left` and `right`, rounded up with zeros, and lie in workgroup memory
// inner index first; the places of vectors are exchanged by inner index, so that neither stores nor loads meet in one bank. The next blocks
// are loaded while the present ones are multiplied. STAGES: tiles that lie in workgroup memory at a time; with two, one barrier a round is
// enough. EXTRA: a second product, `left2` · `right2` over k2, is added.
// SPLITS: ranges of the inner axis go to workgroups of their own, and y holds f32 partial sums for each.
#include "common/wgsl/numbers.wgsl"
#include "common/wgsl/operand.wgsl" (N = y)
#include "common/wgsl/store-quad.wgsl" (N = y)
#if ADDS
#include "common/wgsl/operand.wgsl" (N = c)
#endif

#include "common/wgsl/product-params.wgsl"

const left_vectors = $(BM)u / 4u;
const right_vectors = $(BN)u / 4u;
const inner_blocks = $(BK)u / 4u;
const left_blocks = left_vectors * inner_blocks;
const blocks = left_blocks + right_vectors * inner_blocks;
const left_size = $(BK)u * left_vectors;
const right_size = $(BK)u * right_vectors;

var<workgroup> left_tile: array<vec4<f32>, $(STAGES)u * left_size>;
var<workgroup> right_tile: array<vec4<f32>, $(STAGES)u * right_size>;
// Batch of this workgroup: starts of a and b.
var<private> a_base: u32;
var<private> b_base: u32;

fn exchange(inner_block: u32, vectors: u32) -> u32 {
  return ((inner_block & 3u) * 2u) & (vectors - 1u);
}

// Block and inner block of number i of a tile. Neighbours go along the axis that lies side by side in memory.
fn left_place(i: u32) -> vec2<u32> {
#if LEFT_INNER
  return vec2<u32>(i / inner_blocks, i % inner_blocks);
#else
  return vec2<u32>(i % left_vectors, i / left_vectors);
#endif
}

fn right_place(i: u32) -> vec2<u32> {
#if RIGHT_INNER
  return vec2<u32>(i / inner_blocks, i % inner_blocks);
#else
  return vec2<u32>(i % right_vectors, i / right_vectors);
#endif
}

fn fetch(i: u32, m0: u32, n0: u32, k0: u32, end: u32) -> mat4x4<f32> {
  if i < left_blocks {
    let p = left_place(i);
    return left(m0 + p.x * 4u, k0 + p.y * 4u, end);
  }
  let p = right_place(i - left_blocks);
  return right(n0 + p.x * 4u, k0 + p.y * 4u, end);
}

#if EXTRA
fn fetch2(i: u32, m0: u32, n0: u32, k0: u32, end: u32) -> mat4x4<f32> {
  if i < left_blocks {
    let p = left_place(i);
    return left2(m0 + p.x * 4u, k0 + p.y * 4u, end);
  }
  let p = right_place(i - left_blocks);
  return right2(n0 + p.x * 4u, k0 + p.y * 4u, end);
}
#endif

fn keep(i: u32, stage: u32, block: mat4x4<f32>) {
  if i < left_blocks {
    let p = left_place(i);
    let at = stage * left_size + p.y * 4u * left_vectors + (p.x ^ exchange(p.y, left_vectors));
#for j in 0..4
    left_tile[at + $(j)u * left_vectors] = block[$(j)];
#endfor
  } else {
    let p = right_place(i - left_blocks);
    let at = stage * right_size + p.y * 4u * right_vectors + (p.x ^ exchange(p.y, right_vectors));
#for j in 0..4
    right_tile[at + $(j)u * right_vectors] = block[$(j)];
#endfor
  }
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
#if SQUARE
  // Neighbours, by 32, share 8 columns and 4 rows of parts: loads of a subgroup meet in fewer places.
  let tx = id / 32u % ($(BN)u / $(TN)u / 8u) * 8u + id % 8u;
  let ty = id / 32u / ($(BN)u / $(TN)u / 8u) * 4u + id / 8u % 4u;
#else
  let tx = id % ($(BN)u / $(TN)u);
  let ty = id / ($(BN)u / $(TN)u);
#endif
#for i in 0..$(TM)
#for j in 0..$(TNV)
  var sum_$(i)_$(j) = vec4<f32>();
#endfor
#endfor
  prepare(id);
  let first = split * P.range;
  let last = min(P.k, first + P.range);
#include "common/wgsl/tiles-product.wgsl"
  let y_base = P.y_offset + dot(batch, P.y_batch) + split * P.y_split;
  let c_base = P.c_offset + dot(batch, P.c_batch);
#for i in 0..$(TM)
#for j in 0..$(TNV)
  put(
    y_base,
    c_base,
    m0 + (ty + ($(i)u / 4u) * (left_vectors / $(TMV)u)) * 4u + $(i)u % 4u,
    n0 + (tx + $(j)u * (right_vectors / $(TNV)u)) * 4u,
    sum_$(i)_$(j),
  );
#endfor
#endfor
}
