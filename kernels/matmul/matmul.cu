// y = alpha · a·b + beta · c for any strides, float dtypes and batches: the path where cuBLASLt does not take a call.
// 64×64 tile, 16×16 threads with 4×4 sums each, operands widened to f32 in shared memory.
#include "../common/cuda/common.cuh"

KERNEL matmul_tile(const void* a, const void* b, const void* c, void* y, Shape batch, Strides aBatch, Strides bBatch, Strides cBatch, Strides yBatch, i32 m, i32 n, i32 k, i64 aRow, i64 aCol, i64 bRow, i64 bCol, i64 cRow, i64 cCol, i64 yRow, i64 yCol, float alpha, float beta, i32 ta, i32 tb, i32 tc, i32 ty) {
  afterPrevious();
  constexpr int tile = 64, depth = 16;
  __shared__ float as[depth][tile + 4];
  __shared__ float bs[depth][tile + 4];
  const int tx = threadIdx.x & 15, tyy = threadIdx.x >> 4;
  for (i64 z = blockIdx.z; z < batch.count; z += gridDim.z) {
    const i64 a0 = offsetOf(batch, aBatch, z), b0 = offsetOf(batch, bBatch, z);
    const int row0 = blockIdx.y * tile, col0 = blockIdx.x * tile;
    float acc[4][4] = {};
    for (int k0 = 0; k0 < k; k0 += depth) {
      for (int i = threadIdx.x; i < tile * depth; i += 256) {
        // Neighbouring threads take neighbouring elements of whichever axis is contiguous.
        const int ar = aCol == 1 ? i / depth : i % tile, ak = aCol == 1 ? i % depth : i / tile;
        as[ak][ar] = row0 + ar < m && k0 + ak < k ? loadFloat(a, ta, a0 + i64(row0 + ar) * aRow + i64(k0 + ak) * aCol) : 0.f;
        const int bc = bRow == 1 ? i / depth : i % tile, bk = bRow == 1 ? i % depth : i / tile;
        bs[bk][bc] = col0 + bc < n && k0 + bk < k ? loadFloat(b, tb, b0 + i64(k0 + bk) * bRow + i64(col0 + bc) * bCol) : 0.f;
      }
      __syncthreads();
#pragma unroll
      for (int kk = 0; kk < depth; kk++) {
        float av[4], bv[4];
#pragma unroll
        for (int i = 0; i < 4; i++) { av[i] = as[kk][tyy * 4 + i]; bv[i] = bs[kk][tx * 4 + i]; }
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
          for (int j = 0; j < 4; j++) acc[i][j] = fmaf(av[i], bv[j], acc[i][j]);
      }
      __syncthreads();
    }
    const i64 c0 = c ? offsetOf(batch, cBatch, z) : 0, y0 = offsetOf(batch, yBatch, z);
    for (int i = 0; i < 4; i++)
      for (int j = 0; j < 4; j++) {
        const int r = row0 + tyy * 4 + i, q = col0 + tx * 4 + j;
        if (r >= m || q >= n) continue;
        float v = alpha * acc[i][j];
        if (c) v += beta * loadFloat(c, tc, c0 + i64(r) * cRow + i64(q) * cCol);
        storeFloat(y, ty, y0 + i64(r) * yRow + i64(q) * yCol, v);
      }
    __syncthreads();
  }
}
