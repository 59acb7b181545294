// What the attention kernels share: operands, visible ranges, shared tiles of 16-bit rows and their fragments.
#pragma once
#include "common.cuh"

/** A [B, T, H, D] operand: strides in elements; D is contiguous. */
struct Heads { i64 b, t, h; };

struct AttentionShape {
  i32 B, Tq, Tk, Hq, Hkv, D;
  float scale;
  i32 causal;
  /** starts and ends [B, Tq], or null. */
  const i32* starts;
  const i32* ends;
  i64 startsB, startsT, endsB, endsT;
};

/** Keys lo ≤ j < hi that query i of batch b sees. */
DEVICE void visible(const AttentionShape& s, int b, int i, int& lo, int& hi) {
  lo = s.starts ? s.starts[b * s.startsB + i * s.startsT] : 0;
  hi = s.ends ? s.ends[b * s.endsB + i * s.endsT] : s.Tk;
  lo = max(lo, 0);
  hi = min(hi, s.Tk);
  if (s.causal) hi = min(hi, i + s.Tk - s.Tq + 1);
}

/** Bounds over `count` queries from `first`: some query sees [anyLo, anyHi), every query that exists sees [allLo, allHi). */
struct TileRange { int anyLo, anyHi, allLo, allHi; };
DEVICE TileRange tileRange(const AttentionShape& s, int b, int first, int count, int* scratch) {
  // Written and read by the whole block; scratch holds 4 ints.
  if (threadIdx.x == 0) { scratch[0] = 0x7fffffff; scratch[1] = 0; scratch[2] = 0; scratch[3] = 0x7fffffff; }
  __syncthreads();
  if (threadIdx.x < 32) {
    int anyLo = 0x7fffffff, anyHi = 0, allLo = 0, allHi = 0x7fffffff;
    for (int r = threadIdx.x; r < count; r += 32) {
      if (first + r >= s.Tq) continue;
      int lo, hi;
      visible(s, b, first + r, lo, hi);
      if (lo < hi) { anyLo = min(anyLo, lo); anyHi = max(anyHi, hi); }
      allLo = max(allLo, lo);
      allHi = min(allHi, hi);
    }
#pragma unroll
    for (int o = 16; o > 0; o >>= 1) {
      anyLo = min(anyLo, __shfl_xor_sync(0xffffffffu, anyLo, o));
      anyHi = max(anyHi, __shfl_xor_sync(0xffffffffu, anyHi, o));
      allLo = max(allLo, __shfl_xor_sync(0xffffffffu, allLo, o));
      allHi = min(allHi, __shfl_xor_sync(0xffffffffu, allHi, o));
    }
    if (threadIdx.x == 0) { scratch[0] = anyLo; scratch[1] = anyHi; scratch[2] = allLo; scratch[3] = allHi; }
  }
  __syncthreads();
  TileRange r = {scratch[0], scratch[1], scratch[2], scratch[3]};
  if (r.anyLo > r.anyHi) r.anyLo = r.anyHi;
  return r;
}

/** A tile of rows of D 16-bit elements in shared memory; 16-byte pieces are placed by an exclusive-or with the row, against bank conflicts. */
template <int D> DEVICE u16* tileAt(u16* tile, int row, int piece) {
  constexpr int mask = D / 8 >= 8 ? 7 : D / 8 - 1;
  return tile + row * D + ((piece ^ (row & mask)) << 3);
}
/** Loads rows first … first + rows − 1 of one head; rows outside [0, T) become zeros. */
template <int D, int rows, int threads> DEVICE void loadTile(u16* tile, const u16* head, i64 stride, int first, int T) {
  constexpr int pieces = D / 8;
#pragma unroll
  for (int i = threadIdx.x; i < rows * pieces; i += threads) {
    const int r = i / pieces, c = i % pieces;
    const bool inside = first + r < T;
    copyAsync16(tileAt<D>(tile, r, c), head + (inside ? i64(first + r) * stride + c * 8 : 0), inside);
  }
}
/** The 16×16 block at (row, 16k) as the left operand of a product. */
template <int D> DEVICE void leftFragment(u32 (&a)[4], u16* tile, int row, int k) {
  const int lane = threadIdx.x & 31;
  loadMatrix4(a, tileAt<D>(tile, row + (lane & 15), 2 * k + (lane >> 4)));
}
/** Rows row … row+15 at columns 16k … as two right operands (rows are the result's columns): {b[0], b[1]} and {b[2], b[3]}. */
template <int D> DEVICE void rightFragment(u32 (&b)[4], u16* tile, int row, int k) {
  const int lane = threadIdx.x & 31;
  loadMatrix4(b, tileAt<D>(tile, row + ((lane >> 4) << 3) + (lane & 7), 2 * k + ((lane >> 3) & 1)));
}
/** Rows 16k … 16k+15 (summed over) at columns 8·piece … as two right operands, for columns piece and piece + 1. */
template <int D> DEVICE void rightFragmentTransposed(u32 (&b)[4], u16* tile, int k, int piece) {
  const int lane = threadIdx.x & 31;
  loadMatrix4Transposed(b, tileAt<D>(tile, 16 * k + (lane & 15), piece + (lane >> 4)));
}
/** Two neighbouring 16×8 results as the left operand (16×16) of the next product. */
template <int T> DEVICE void leftFromResults(u32 (&a)[4], const float (&left)[4], const float (&right)[4]) {
  a[0] = packHalf<T>(left[0], left[1]);
  a[1] = packHalf<T>(left[2], left[3]);
  a[2] = packHalf<T>(right[0], right[1]);
  a[3] = packHalf<T>(right[2], right[3]);
}
/** sum [16, D] += a · rows 16k … 16k+15 of a tile. */
template <int T, int D> DEVICE void accumulateRows(float (&sum)[D / 8][4], const u32 (&a)[4], u16* tile, int k) {
#pragma unroll
  for (int d = 0; d < D / 16; d++) {
    u32 f[4];
    rightFragmentTransposed<D>(f, tile, k, 2 * d);
    multiplyAdd<T>(sum[2 * d], a, f[0], f[1]);
    multiplyAdd<T>(sum[2 * d + 1], a, f[2], f[3]);
  }
}
