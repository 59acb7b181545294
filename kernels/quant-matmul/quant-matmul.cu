// Few rows times a 4-bit weight W [N, K]: memory-bound on the codes, so the weight is never written out. A warp makes one column of y:
// each lane takes four bytes (eight codes) of every 256 elements, values from the lanes' codebook by shuffles, x from cache.
// kernels: quant_vector_1 quant_vector_2 quant_vector_4
#include "../common/cuda/quant.cuh"

template <int M> DEVICE void quantVector(const void* x, const Quantized& w, const void* c, void* y, i64 N, i64 K, i64 xRow, i64 cRow, i64 cCol, i64 yRow, i32 tx, i32 tc) {
  constexpr int unroll = M == 1 ? 8 : 4;
  const int lane = threadIdx.x & 31;
  const i64 n = i64(blockIdx.x) * (blockDim.x >> 5) + (threadIdx.x >> 5);
  if (n >= N) return;
  const float table = w.codebook[lane & 15], offset = w.offset ? w.offset[0] : 0.f;
  const u32* codes = reinterpret_cast<const u32*>(w.codes + n * K / 2);
  const i64 vectors = K >> 3;
  float acc[M] = {};
  for (i64 base = 0; base < vectors; base += 32 * unroll) {
    u32 word[unroll];
    float scale[unroll];
#pragma unroll
    for (int u = 0; u < unroll; u++) {
      const i64 v = base + u * 32 + lane;
      word[u] = v < vectors ? codes[v] : 0;
    }
#pragma unroll
    for (int u = 0; u < unroll; u++) {
      const i64 v = base + u * 32 + lane;
      scale[u] = v < vectors ? scaleOf(w, w.nestedCodebook, offset, (n * K + (v << 3)) >> w.shift) : 0.f;
    }
#pragma unroll
    for (int u = 0; u < unroll; u++) {
      if (base + u * 32 >= vectors) break;
      const i64 v = base + u * 32 + lane;
      float e[8];
#pragma unroll
      for (int j = 0; j < 8; j++) e[j] = __shfl_sync(0xffffffffu, table, int(word[u] >> (8 * (j >> 1) + 4 * (1 - (j & 1))) & 15));
      if (v < vectors) {
#pragma unroll
        for (int m = 0; m < M; m++) {
          float xv[8];
          load8(x, tx, m * xRow + v * 8, xv);
          float part = 0.f;
#pragma unroll
          for (int j = 0; j < 8; j++) part = fmaf(e[j], xv[j], part);
          acc[m] = fmaf(part, scale[u], acc[m]);
        }
      }
    }
  }
#pragma unroll
  for (int m = 0; m < M; m++) {
    const float sum = warpSum(acc[m]);
    if (lane == 0) storeFloat(y, tx, m * yRow + n, sum + (c ? loadFloat(c, tc, m * cRow + n * cCol) : 0.f));
  }
}

#define QUANT_VECTOR(M)                                                                                                             \
  KERNEL __launch_bounds__(256) quant_vector_##M(const void* x, Quantized w, const void* c, void* y, i64 N, i64 K, i64 xRow, i64 cRow, i64 cCol, i64 yRow, i32 tx, i32 tc) { \
    quantVector<M>(x, w, c, y, N, K, xRow, cRow, cCol, yRow, tx, tc);                                                               \
  }
QUANT_VECTOR(1)
QUANT_VECTOR(2)
QUANT_VECTOR(4)
