// y = softmax(x) over contiguous rows: a block a row; maximum and sum in one pass, results in a second (from cache).
#include "../common/cuda/rows.cuh"

KERNEL softmax_rows(const void* x, void* y, i64 rows, i64 n, i64 xRow, i64 yRow, i32 dtype, i32 wide) {
  afterPrevious();
  __shared__ float scratch[33];
  for (i64 r = blockIdx.x; r < rows; r += gridDim.x) {
    float best = -INFINITY;
    bool bad = false;
    for (i64 i = threadIdx.x * 8; i < n; i += blockDim.x * 8) {
      float v[8];
      loadChunk(x, dtype, r * xRow, i, n, wide, -INFINITY, v);
#pragma unroll
      for (int j = 0; j < 8; j++) {
        bad |= v[j] != v[j];
        best = fmaxf(best, v[j]);
      }
    }
    best = blockMax(best, scratch);
    float sum = bad ? bitsToFloat(0x7fc00000u) : 0.f;
    for (i64 i = threadIdx.x * 8; i < n; i += blockDim.x * 8) {
      float v[8];
      loadChunk(x, dtype, r * xRow, i, n, wide, -INFINITY, v);
#pragma unroll
      for (int j = 0; j < 8; j++)
        if (wide || i + j < n) sum += expf(v[j] - best);
    }
    sum = blockSum(sum, scratch);
    const float scale = 1.f / sum;
    for (i64 i = threadIdx.x * 8; i < n; i += blockDim.x * 8) {
      float v[8];
      loadChunk(x, dtype, r * xRow, i, n, wide, -INFINITY, v);
#pragma unroll
      for (int j = 0; j < 8; j++) v[j] = expf(v[j] - best) * scale;
      storeChunk(y, dtype, r * yRow, i, n, wide, v);
    }
  }
}
