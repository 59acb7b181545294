// dx = rstd · (g − x̂ · mean(g·x̂)) with x̂ = x·rstd, g = dy·weight: a block a row. The weight's gradient goes by strips: block b sums the
// rows b, b + strips, … of 256·8 columns into partial[b, :], and `rms_norm_weight_sum` adds the strips in order.
#include "../common/cuda/rows.cuh"

KERNEL rms_norm_backward_rows(const void* dy, const void* x, const void* weight, const float* rstd, void* dx, i64 rows, i64 n, i64 dyRow, i64 xRow, i64 dxRow, i32 tdy, i32 tx, i32 tw, i32 wide) {
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

/** grid (strips, ⌈n / 2048⌉), 256 threads. Runs before dx is written, since dx may lie over dy. */
KERNEL rms_norm_weight_strips(const void* dy, const void* x, const float* rstd, float* partial, i64 rows, i64 n, i64 dyRow, i64 xRow, i32 tdy, i32 tx, i32 wide) {
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
  for (i64 i = globalThread(); i < n; i += globalThreads()) {
    float sum = 0.f;
    for (i64 s = 0; s < strips; s++) sum += partial[s * n + i];
    dweight[i] = sum;
  }
}
