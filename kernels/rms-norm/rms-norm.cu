// y = x · rstd · weight, rstd = 1/√(mean x² + eps): a block a row; up to 16 elements a thread stay in registers between the two passes.
#include "../common/cuda/rows.cuh"

KERNEL rms_norm_rows(const void* x, const void* weight, void* y, float* rstd, i64 rows, i64 n, i64 xRow, i64 yRow, float eps, i32 tx, i32 tw, i32 wide) {
  afterPrevious();
  __shared__ float scratch[33];
  for (i64 r = blockIdx.x; r < rows; r += gridDim.x) {
    float kept[2][8] = {};
    float sum = 0.f;
    int c = 0;
    for (i64 i = threadIdx.x * 8; i < n; i += blockDim.x * 8, c++) {
      float v[8];
      loadChunk(x, tx, r * xRow, i, n, wide, 0.f, v);
#pragma unroll
      for (int j = 0; j < 8; j++) {
        sum = fmaf(v[j], v[j], sum);
        if (c == 0) kept[0][j] = v[j];
        if (c == 1) kept[1][j] = v[j];
      }
    }
    sum = blockSum(sum, scratch);
    const float scale = 1.f / sqrtf(sum / float(n) + eps);
    if (threadIdx.x == 0) rstd[r] = scale;
    c = 0;
    for (i64 i = threadIdx.x * 8; i < n; i += blockDim.x * 8, c++) {
      float v[8], w[8];
      if (c < 2) {
#pragma unroll
        for (int j = 0; j < 8; j++) v[j] = c == 0 ? kept[0][j] : kept[1][j];
      } else {
        loadChunk(x, tx, r * xRow, i, n, wide, 0.f, v);
      }
      loadChunk(weight, tw, 0, i, n, wide, 0.f, w);
#pragma unroll
      for (int j = 0; j < 8; j++) v[j] = v[j] * scale * w[j];
      storeChunk(y, tx, r * yRow, i, n, wide, v);
    }
  }
}

/** Rows that fit the registers of a block, C chunks of eight a thread; everything is 16-byte aligned, x, weight and y of one dtype. */
template <int T, int C> DEVICE void rmsNormFast(const void* x, const void* weight, void* y, float* rstd, i64 rows, i64 n, i64 xRow, i64 yRow, float eps) {
  __shared__ float scratch[2][32];
  int turn = 0;
  for (i64 r = blockIdx.x; r < rows; r += gridDim.x, turn ^= 1) {
    Raw<T> in[C], by[C];
#pragma unroll
    for (int c = 0; c < C; c++) {
      const i64 i = (i64(c) * blockDim.x + threadIdx.x) * 8;
      in[c] = i < n ? loadRaw<T>(x, r * xRow + i) : Raw<T>{};
    }
#pragma unroll
    for (int c = 0; c < C; c++) {
      const i64 i = (i64(c) * blockDim.x + threadIdx.x) * 8;
      by[c] = i < n ? loadRaw<T>(weight, i) : Raw<T>{};
    }
    float sum = 0.f, v[8], w[8];
#pragma unroll
    for (int c = 0; c < C; c++) {
      unpack<T>(in[c], v);
#pragma unroll
      for (int j = 0; j < 8; j++) sum = fmaf(v[j], v[j], sum);
    }
    const float scale = 1.f / sqrtf(blockSumOnce(sum, scratch, turn) / float(n) + eps);
    if (threadIdx.x == 0) rstd[r] = scale;
#pragma unroll
    for (int c = 0; c < C; c++) {
      const i64 i = (i64(c) * blockDim.x + threadIdx.x) * 8;
      unpack<T>(in[c], v);
      unpack<T>(by[c], w);
#pragma unroll
      for (int j = 0; j < 8; j++) v[j] = v[j] * scale * w[j];
      if (i < n) store8(y, T, r * yRow + i, v);
    }
  }
}
// kernels: rms_norm_bf16_1 rms_norm_bf16_4 rms_norm_f16_1 rms_norm_f16_4
#define RMS_NORM(name, T, C) \
  KERNEL name(const void* x, const void* weight, void* y, float* rstd, i64 rows, i64 n, i64 xRow, i64 yRow, float eps) { afterPrevious(); rmsNormFast<T, C>(x, weight, y, rstd, rows, n, xRow, yRow, eps); }
RMS_NORM(rms_norm_bf16_1, BF16, 1)
RMS_NORM(rms_norm_bf16_4, BF16, 4)
RMS_NORM(rms_norm_f16_1, F16, 1)
RMS_NORM(rms_norm_f16_4, F16, 4)
