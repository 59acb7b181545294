// y = alpha · left · right + beta · c by tiles of BM × BN: a workgroup of THREADS invocations keeps the tile in registers, TM × TN each, and
// walks the inner axis by BK. Blocks of 4 × 4 elements come through `left` and `right`, rounded up with zeros, and lie in workgroup memory
// inner index first; the places of vectors are exchanged by inner index, so that neither stores nor loads meet in one bank. The next blocks
// are loaded while the present ones are multiplied. EXTRA: a second product, `left2` · `right2` over k2, is added.
// SPLITS: ranges of the inner axis go to workgroups of their own, and y holds f32 partial sums for each.
#include "common/wgsl/numbers.wgsl"
#include "common/wgsl/operand.wgsl" (N = y)
#include "common/wgsl/store-quad.wgsl" (N = y)
#if ADDS
#include "common/wgsl/operand.wgsl" (N = c)
#endif

struct Params {
  // Strides of two batch axes.
  y_batch: vec2<u32>,
  c_batch: vec2<u32>,
  a_batch: vec2<u32>,
  b_batch: vec2<u32>,
  m: u32,
  n: u32,
  k: u32,
  y_offset: u32,
  y_row: u32,
  y_column: u32,
  c_offset: u32,
  c_row: u32,
  c_column: u32,
  // Of the left operand a: rows m. Of the right operand b: rows n.
  a_offset: u32,
  a_row: u32,
  a_k: u32,
  b_offset: u32,
  b_row: u32,
  b_k: u32,
  // Length of the second batch axis.
  batch: u32,
  splits: u32,
  range: u32,
  y_split: u32,
  alpha: f32,
  beta: f32,
  // The second product.
  k2: u32,
  h_offset: u32,
  h_row: u32,
  h_k: u32,
  l_offset: u32,
  l_row: u32,
  l_k: u32,
  scale: f32,
  // Of a quantized right operand: where its scales and codebook start, the length of its rows, log2 of its block size.
  s_offset: u32,
  t_offset: u32,
  width: u32,
  shift: u32,
}
@group(0) @binding(0) var<uniform> P: Params;

const left_vectors = $(BM)u / 4u;
const right_vectors = $(BN)u / 4u;
const inner_blocks = $(BK)u / 4u;
const left_blocks = left_vectors * inner_blocks;
const blocks = left_blocks + right_vectors * inner_blocks;

var<workgroup> left_tile: array<vec4<f32>, $(BK)u * left_vectors>;
var<workgroup> right_tile: array<vec4<f32>, $(BK)u * right_vectors>;
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

fn keep(i: u32, block: mat4x4<f32>) {
  if i < left_blocks {
    let p = left_place(i);
    let at = p.y * 4u * left_vectors + (p.x ^ exchange(p.y, left_vectors));
#for j in 0..4
    left_tile[at + $(j)u * left_vectors] = block[$(j)];
#endfor
  } else {
    let p = right_place(i - left_blocks);
    let at = p.y * 4u * right_vectors + (p.x ^ exchange(p.y, right_vectors));
#for j in 0..4
    right_tile[at + $(j)u * right_vectors] = block[$(j)];
#endfor
  }
}

fn finished(sum: vec4<f32>, c_at: u32, columns: u32) -> vec4<f32> {
  var v = P.alpha * sum;
#if ADDS
#for e in 0..4
  if $(e)u < columns {
    v[$(e)] += P.beta * c_load(c_at + $(e)u * P.c_column);
  }
#endfor
#endif
  return v;
}

// Four elements of a row of y, or as many as there are.
fn put(y_base: u32, c_base: u32, row: u32, column: u32, sum: vec4<f32>) {
  if row >= P.m || column >= P.n {
    return;
  }
  let columns = min(4u, P.n - column);
  let v = finished(sum, c_base + row * P.c_row + column * P.c_column, columns);
  let at = y_base + row * P.y_row + column * P.y_column;
  y_put_quad(at, v, columns, P.y_column);
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
  let tx = id % ($(BN)u / $(TN)u);
  let ty = id / ($(BN)u / $(TN)u);
#for i in 0..$(TM)
#for j in 0..$(TNV)
  var sum_$(i)_$(j) = vec4<f32>();
#endfor
#endfor
  prepare(id);
  let first = split * P.range;
  let last = min(P.k, first + P.range);
#include "common/wgsl/tiles-product.wgsl" (FETCH = fetch, START = first, END = last)
#if EXTRA
  let k2 = select(0u, P.k2, split == 0u);
#include "common/wgsl/tiles-product.wgsl" (FETCH = fetch2, START = 0u, END = k2)
#endif
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
