// y = silu(gate) · up, gate and up side by side in each row of x.
#include "../common/cuda/rows.cuh"

KERNEL swiglu_rows(const void* x, void* y, i64 rows, i64 n, i64 xRow, i64 yRow, i32 dtype, i32 wide) {
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
