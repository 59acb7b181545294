// dx = rstd · (g − x̂ · mean(g·x̂)) with x̂ = x·rstd, g = dy·weight: a block a row. The weight's gradient goes by strips: block b sums the
// rows b, b + strips, … of 256·8 columns into partial[b, :], and `rms_norm_weight_sum` adds the strips in order.
#include "../common/cuda/rows.cuh"

KERNEL rms_norm_backward_rows(const void* dy, const void* x, const void* weight, const float* rstd, void* dx, i64 rows, i64 n, i64 dyRow, i64 xRow, i64 dxRow, i32 tdy, i32 tx, i32 tw, i32 wide) {
  afterPrevious();
  __shared__ float scratch[33];
  for (i64 r = blockIdx.x; r < rows; r += gridDim.x) {
    const float scale = rstd[r];
    float sum = 0.f;
    for (i64 i = threadIdx.x * 8; i < n; i += blockDim.x * 8) {
      float g[8], v[8], w[8];
      loadChunk(dy, tdy, r * dyRow, i, n, wide, 0.f, g);
      loadChunk(x, tx, r * xRow, i, n, wide, 0.f, v);
      loadChunk(weight, tw, 0, i, n, wide, 0.f, w);
#pragma unroll
      for (int j = 0; j < 8; j++) sum = fmaf(g[j] * w[j], v[j] * scale, sum);
    }
    const float mean = blockSum(sum, scratch) / float(n);
    for (i64 i = threadIdx.x * 8; i < n; i += blockDim.x * 8) {
      float g[8], v[8], w[8];
      loadChunk(dy, tdy, r * dyRow, i, n, wide, 0.f, g);
      loadChunk(x, tx, r * xRow, i, n, wide, 0.f, v);
      loadChunk(weight, tw, 0, i, n, wide, 0.f, w);
#pragma unroll
      for (int j = 0; j < 8; j++) g[j] = scale * (g[j] * w[j] - v[j] * scale * mean);
      storeChunk(dx, tdy, r * dxRow, i, n, wide, g);
    }
  }
}

/** Rows that fit the registers of a block, C chunks of eight a thread; everything is 16-byte aligned and of one dtype. */
template <int T, int C> DEVICE void rmsNormBackwardFast(const void* dy, const void* x, const void* weight, const float* rstd, void* dx, i64 rows, i64 n, i64 dyRow, i64 xRow, i64 dxRow) {
  __shared__ float scratch[2][32];
  int turn = 0;
  for (i64 r = blockIdx.x; r < rows; r += gridDim.x, turn ^= 1) {
    Raw<T> up[C], in[C], by[C];
#pragma unroll
    for (int c = 0; c < C; c++) {
      const i64 i = (i64(c) * blockDim.x + threadIdx.x) * 8;
      up[c] = i < n ? loadRaw<T>(dy, r * dyRow + i) : Raw<T>{};
      in[c] = i < n ? loadRaw<T>(x, r * xRow + i) : Raw<T>{};
    }
#pragma unroll
    for (int c = 0; c < C; c++) {
      const i64 i = (i64(c) * blockDim.x + threadIdx.x) * 8;
      by[c] = i < n ? loadRaw<T>(weight, i) : Raw<T>{};
    }
    const float scale = rstd[r];
    float sum = 0.f, g[8], v[8], w[8];
#pragma unroll
    for (int c = 0; c < C; c++) {
      unpack<T>(up[c], g);
      unpack<T>(in[c], v);
      unpack<T>(by[c], w);
#pragma unroll
      for (int j = 0; j < 8; j++) sum = fmaf(g[j] * w[j], v[j] * scale, sum);
    }
    const float mean = blockSumOnce(sum, scratch, turn) / float(n);
#pragma unroll
    for (int c = 0; c < C; c++) {
      const i64 i = (i64(c) * blockDim.x + threadIdx.x) * 8;
      unpack<T>(up[c], g);
      unpack<T>(in[c], v);
      unpack<T>(by[c], w);
#pragma unroll
      for (int j = 0; j < 8; j++) g[j] = scale * (g[j] * w[j] - v[j] * scale * mean);
      if (i < n) store8(dx, T, r * dxRow + i, g);
    }
  }
}
// kernels: rms_norm_backward_bf16_1 rms_norm_backward_bf16_4 rms_norm_backward_f16_1 rms_norm_backward_f16_4
#define RMS_NORM_BACKWARD(name, T, C)                                                                                                                                              \
  KERNEL name(const void* dy, const void* x, const void* weight, const float* rstd, void* dx, i64 rows, i64 n, i64 dyRow, i64 xRow, i64 dxRow) {                                                     \
    afterPrevious();                                                                                                                                                                                 \
    rmsNormBackwardFast<T, C>(dy, x, weight, rstd, dx, rows, n, dyRow, xRow, dxRow);                                                                                              \
  }
RMS_NORM_BACKWARD(rms_norm_backward_bf16_1, BF16, 1)
RMS_NORM_BACKWARD(rms_norm_backward_bf16_4, BF16, 4)
RMS_NORM_BACKWARD(rms_norm_backward_f16_1, F16, 1)
RMS_NORM_BACKWARD(rms_norm_backward_f16_4, F16, 4)

/** grid (strips, ⌈n / 2048⌉), 256 threads. Runs before dx is written, since dx may lie over dy. */
KERNEL rms_norm_weight_strips(const void* dy, const void* x, const float* rstd, float* partial, i64 rows, i64 n, i64 dyRow, i64 xRow, i32 tdy, i32 tx, i32 wide) {
  afterPrevious();
  const i64 i = i64(blockIdx.y) * 2048 + threadIdx.x * 8;
  if (i >= n) return;
  float acc[8] = {};
  for (i64 r = blockIdx.x; r < rows; r += gridDim.x) {
    const float scale = rstd[r];
    float g[8], v[8];
    loadChunk(dy, tdy, r * dyRow, i, n, wide, 0.f, g);
    loadChunk(x, tx, r * xRow, i, n, wide, 0.f, v);
#pragma unroll
    for (int j = 0; j < 8; j++) acc[j] = fmaf(g[j], v[j] * scale, acc[j]);
  }
#pragma unroll
  for (int j = 0; j < 8; j++)
    if (i + j < n) partial[blockIdx.x * n + i + j] = acc[j];
}

KERNEL rms_norm_weight_sum(const float* partial, float* dweight, i64 strips, i64 n) {
  afterPrevious();
  for (i64 i = globalThread(); i < n; i += globalThreads()) {
    float sum = 0.f;
    for (i64 s = 0; s < strips; s++) sum += partial[s * n + i];
    dweight[i] = sum;
  }
}
