// y = silu(gate) · up, gate and up side by side in each row of x.
#include "../common/cuda/rows.cuh"

KERNEL swiglu_rows(const void* x, void* y, i64 rows, i64 n, i64 xRow, i64 yRow, i32 dtype, i32 wide) {
  afterPrevious();
  const i64 chunks = (n + 7) / 8;
  for (i64 g = globalThread(); g < rows * chunks; g += globalThreads()) {
    const i64 r = g / chunks, i = (g - r * chunks) * 8;
    float gate[8], up[8];
    loadChunk(x, dtype, r * xRow, i, n, wide, 0.f, gate);
    loadChunk(x, dtype, r * xRow + n, i, n, wide, 0.f, up);
#pragma unroll
    for (int j = 0; j < 8; j++) gate[j] = gate[j] / (1.f + __expf(-gate[j])) * up[j];
    storeChunk(y, dtype, r * yRow, i, n, wide, gate);
  }
}

/** grid (⌈n / (8 · 256 · unroll)⌉, rows): aligned rows, a multiple of eight wide. */
template <int T> DEVICE void swigluFast(const void* x, void* y, i64 rows, i64 n, i64 xRow, i64 yRow) {
  constexpr int unroll = 2;
  for (i64 r = blockIdx.y; r < rows; r += gridDim.y) {
    Raw<T> gates[unroll], ups[unroll];
    const i64 first = (i64(blockIdx.x) * (unroll * 256) + threadIdx.x) * 8;
#pragma unroll
    for (int u = 0; u < unroll; u++) {
      const i64 i = first + u * 2048;
      gates[u] = i < n ? loadRaw<T>(x, r * xRow + i) : Raw<T>{};
      ups[u] = i < n ? loadRaw<T>(x, r * xRow + n + i) : Raw<T>{};
    }
#pragma unroll
    for (int u = 0; u < unroll; u++) {
      const i64 i = first + u * 2048;
      float gate[8], up[8];
      unpack<T>(gates[u], gate);
      unpack<T>(ups[u], up);
#pragma unroll
      for (int j = 0; j < 8; j++) gate[j] = __fdividef(gate[j], 1.f + __expf(-gate[j])) * up[j];
      if (i < n) store8(y, T, r * yRow + i, gate);
    }
  }
}
KERNEL __launch_bounds__(256) swiglu_bf16(const void* x, void* y, i64 rows, i64 n, i64 xRow, i64 yRow) { afterPrevious(); swigluFast<BF16>(x, y, rows, n, xRow, yRow); }
KERNEL __launch_bounds__(256) swiglu_f16(const void* x, void* y, i64 rows, i64 n, i64 xRow, i64 yRow) { afterPrevious(); swigluFast<F16>(x, y, rows, n, xRow, yRow); }
