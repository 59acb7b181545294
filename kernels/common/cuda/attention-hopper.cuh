// What the attention kernels for sm_90a share. A tile of `rows` rows of one head lies in shared memory as D / 64 panels of 64 columns,
// swizzled as the copy engine writes them; a warp group multiplies 64 rows of it.
#pragma once
#include "attention.cuh"
#include "hopper.cuh"

#if HOPPER
/** Fetches rows t … t + rows − 1 of head h; the bytes count on the barrier. One thread calls it. */
template <int D, int rows> DEVICE void fetchTile(u16* tile, const TensorMap* map, u64* barrier, int t, int h, int b) {
#pragma unroll
  for (int panel = 0; panel < D / 64; panel++) copyBox(tile + panel * rows * 64, map, barrier, panel * 64, h, t, b);
}

/** d = a · bᵀ over D, begun and committed: a points at 64 rows within a tile of aRows rows, b at a tile of bRows rows (the columns of d). */
template <int T, int D, int aRows, int bRows> DEVICE void rowProducts(float (&d)[bRows / 2], u16* a, u16* b) {
  wgmmaFence();
#pragma unroll
  for (int step = 0; step < D / 16; step++) {
    const int panel = step / 4, inside = (step % 4) * 32;
    const u64 left = descriptorAlong(sharedAddress(a + panel * aRows * 64) + inside), right = descriptorAlong(sharedAddress(b + panel * bRows * 64) + inside);
    if (step == 0) wgmmaSharedFirst<T>(d, left, right);
    else wgmmaShared<T>(d, left, right);
  }
  wgmmaCommit();
}
/** out += p · v, begun and committed: p [64, rows] in registers, v a tile of `rows` rows, which are summed over. */
template <int T, int D, int rows> DEVICE void weightedSum(float (&out)[D / 2], const u32 (&p)[rows / 16][4], u16* v) {
  wgmmaFence();
#pragma unroll
  for (int step = 0; step < rows / 16; step++) wgmmaRegisters<T>(out, p[step], descriptorAcross(sharedAddress(v) + step * 16 * 128, rows * 128));
  wgmmaCommit();
}
/** An accumulator [64, 2N] as left operands of 16 columns each. */
template <int T, int N> DEVICE void packLeft(u32 (&p)[N / 8][4], const float (&d)[N]) {
#pragma unroll
  for (int k = 0; k < N / 8; k++)
#pragma unroll
    for (int w = 0; w < 4; w++) {
      const int i = 4 * (2 * k + (w >> 1)) + 2 * (w & 1);
      p[k][w] = packHalf<T>(d[i], d[i + 1]);
    }
}

/**
 * Writes a warp group's 64 rows × D, times a factor for each of a thread's two rows, to rows first … of `to` that exist. They go through
 * `room` (64 rows within a tile of `rows` rows that this group has done with), so that rows leave in whole lines.
 */
template <int T, int D, int rows> DEVICE void storeRows(const float (&d)[D / 2], const float (&factor)[2], u16* room, int barrier, u16* to, i64 stride, int first, int limit) {
  const int lane = threadIdx.x & 31, warp = (threadIdx.x >> 5) & 3;
#pragma unroll
  for (int e = 0; e < 2; e++) {
    const int row = warp * 16 + lane / 4 + 8 * e;
#pragma unroll
    for (int c = 0; c < D / 8; c++)
      *reinterpret_cast<u32*>(room + (c / 8) * rows * 64 + row * 64 + (((c % 8) ^ (row & 7)) << 3) + (lane & 3) * 2) =
          packHalf<T>(d[4 * c + 2 * e] * factor[e], d[4 * c + 2 * e + 1] * factor[e]);
  }
  namedBarrier(barrier, 128);
  for (int i = threadIdx.x & 127; i < 64 * (D / 8); i += 128) {
    const int row = i / (D / 8), piece = i % (D / 8);
    if (first + row >= limit) continue;
    *reinterpret_cast<Vec16*>(to + i64(first + row) * stride + piece * 8) =
        *reinterpret_cast<const Vec16*>(room + (piece / 8) * rows * 64 + row * 64 + (((piece % 8) ^ (row & 7)) << 3));
  }
}

/** Which tile of which head a block takes: the first tiles of `together` heads, then their next, … so that long work starts early and heads that are walked together fit the cache. */
struct Place { int tile, head; };
DEVICE Place placeOf(int block, int tiles, int heads, int together) {
  const int section = block / (tiles * together), within = block - section * tiles * together;
  const int width = min(together, heads - section * together);
  return {within / width, section * together + within % width};
}
#endif
