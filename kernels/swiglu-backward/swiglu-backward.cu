// With s = σ(gate): dgate = dy · up · s · (1 + gate · (1 − s)), dup = dy · gate · s. dx may lie over x.
#include "../common/cuda/rows.cuh"

KERNEL swiglu_backward_rows(const void* dy, const void* x, void* dx, i64 rows, i64 n, i64 dyRow, i64 xRow, i64 dxRow, i32 tdy, i32 tx, i32 wide) {
  afterPrevious();
  const i64 chunks = (n + 7) / 8;
  for (i64 g = globalThread(); g < rows * chunks; g += globalThreads()) {
    const i64 r = g / chunks, i = (g - r * chunks) * 8;
    float d[8], gate[8], up[8];
    loadChunk(dy, tdy, r * dyRow, i, n, wide, 0.f, d);
    loadChunk(x, tx, r * xRow, i, n, wide, 0.f, gate);
    loadChunk(x, tx, r * xRow + n, i, n, wide, 0.f, up);
#pragma unroll
    for (int j = 0; j < 8; j++) {
      const float s = 1.f / (1.f + __expf(-gate[j]));
      const float dgate = d[j] * up[j] * s * (1.f + gate[j] * (1.f - s));
      up[j] = d[j] * gate[j] * s;
      gate[j] = dgate;
    }
    storeChunk(dx, tdy, r * dxRow, i, n, wide, gate);
    storeChunk(dx, tdy, r * dxRow + n, i, n, wide, up);
  }
}

/** grid (⌈n / 2048⌉, rows): aligned rows, a multiple of eight wide, of one dtype. */
template <int T> DEVICE void swigluBackwardFast(const void* dy, const void* x, void* dx, i64 rows, i64 n, i64 dyRow, i64 xRow, i64 dxRow) {
  const i64 i = (i64(blockIdx.x) * 256 + threadIdx.x) * 8;
  if (i >= n) return;
  for (i64 r = blockIdx.y; r < rows; r += gridDim.y) {
    const Raw<T> a = loadRaw<T>(dy, r * dyRow + i), b = loadRaw<T>(x, r * xRow + i), c = loadRaw<T>(x, r * xRow + n + i);
    float d[8], gate[8], up[8];
    unpack<T>(a, d);
    unpack<T>(b, gate);
    unpack<T>(c, up);
#pragma unroll
    for (int j = 0; j < 8; j++) {
      const float s = __fdividef(1.f, 1.f + __expf(-gate[j]));
      const float dgate = d[j] * up[j] * s * (1.f + gate[j] * (1.f - s));
      up[j] = d[j] * gate[j] * s;
      gate[j] = dgate;
    }
    store8(dx, T, r * dxRow + i, gate);
    store8(dx, T, r * dxRow + n + i, up);
  }
}
KERNEL __launch_bounds__(256) swiglu_backward_bf16(const void* dy, const void* x, void* dx, i64 rows, i64 n, i64 dyRow, i64 xRow, i64 dxRow) { afterPrevious(); swigluBackwardFast<BF16>(dy, x, dx, rows, n, dyRow, xRow, dxRow); }
KERNEL __launch_bounds__(256) swiglu_backward_f16(const void* dy, const void* x, void* dx, i64 rows, i64 n, i64 dyRow, i64 xRow, i64 dxRow) { afterPrevious(); swigluBackwardFast<F16>(dy, x, dx, rows, n, dyRow, xRow, dxRow); }
