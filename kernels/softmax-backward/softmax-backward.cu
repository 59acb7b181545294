// dx = y · (dy − Σ dy·y) over contiguous rows, a block a row.
#include "../common/cuda/rows.cuh"

KERNEL softmax_backward_rows(const void* dy, const void* y, void* dx, i64 rows, i64 n, i64 dyRow, i64 yRow, i64 dxRow, i32 tdy, i32 ty, i32 wide) {
  afterPrevious();
  __shared__ float scratch[33];
  for (i64 r = blockIdx.x; r < rows; r += gridDim.x) {
    float sum = 0.f;
    for (i64 i = threadIdx.x * 8; i < n; i += blockDim.x * 8) {
      float g[8], v[8];
      loadChunk(dy, tdy, r * dyRow, i, n, wide, 0.f, g);
      loadChunk(y, ty, r * yRow, i, n, wide, 0.f, v);
#pragma unroll
      for (int j = 0; j < 8; j++) sum = fmaf(g[j], v[j], sum);
    }
    sum = blockSum(sum, scratch);
    for (i64 i = threadIdx.x * 8; i < n; i += blockDim.x * 8) {
      float g[8], v[8];
      loadChunk(dy, tdy, r * dyRow, i, n, wide, 0.f, g);
      loadChunk(y, ty, r * yRow, i, n, wide, 0.f, v);
#pragma unroll
      for (int j = 0; j < 8; j++) g[j] = v[j] * (g[j] - sum);
      storeChunk(dx, tdy, r * dxRow, i, n, wide, g);
    }
  }
}
