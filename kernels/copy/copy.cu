// y = x between any views. The host widens elements to as many as 16 bytes where both sides allow it. `copy_transpose` goes through
// a shared tile where the innermost axis of y is not that of x, so that both sides are read and written in whole lines.
#include "../common/cuda/common.cuh"

template <typename T> DEVICE void copyStrided(const void* x, void* y, const Shape& shape, const Strides& sx, const Strides& sy) {
  for (i64 i = globalThread(); i < shape.count; i += globalThreads())
    static_cast<T*>(y)[offsetOf(shape, sy, i)] = static_cast<const T*>(x)[offsetOf(shape, sx, i)];
}

KERNEL copy_strided(const void* x, void* y, Shape shape, Strides sx, Strides sy, i32 bytes) {
  afterPrevious();
  switch (bytes) {
    case 16: copyStrided<Vec16>(x, y, shape, sx, sy); break;
    case 8: copyStrided<Vec8>(x, y, shape, sx, sy); break;
    case 4: copyStrided<u32>(x, y, shape, sx, sy); break;
    case 2: copyStrided<u16>(x, y, shape, sx, sy); break;
    default: copyStrided<u8>(x, y, shape, sx, sy);
  }
}

/** y[b, i, j] = x[b, j, i]: x is contiguous over i, y over j. grid (⌈cols/32⌉, ⌈rows/32⌉, batch), block 32×8. */
template <typename T> DEVICE void copyTranspose(const T* x, T* y, i32 rows, i32 cols, i64 xCol, i64 yRow) {
  __shared__ T tile[32][33];
  const int col0 = blockIdx.x * 32, row0 = blockIdx.y * 32;
  for (int k = threadIdx.y; k < 32; k += 8)
    if (col0 + k < cols && row0 + int(threadIdx.x) < rows) tile[k][threadIdx.x] = x[i64(col0 + k) * xCol + row0 + threadIdx.x];
  __syncthreads();
  for (int k = threadIdx.y; k < 32; k += 8)
    if (row0 + k < rows && col0 + int(threadIdx.x) < cols) y[i64(row0 + k) * yRow + col0 + threadIdx.x] = tile[threadIdx.x][k];
}
KERNEL copy_transpose(const void* x, void* y, i32 rows, i32 cols, i64 xCol, i64 yRow, i64 xBatch, i64 yBatch, i32 bytes) {
  afterPrevious();
  const i64 b = blockIdx.z;
  if (bytes == 4) copyTranspose(static_cast<const u32*>(x) + b * xBatch, static_cast<u32*>(y) + b * yBatch, rows, cols, xCol, yRow);
  else if (bytes == 2) copyTranspose(static_cast<const u16*>(x) + b * xBatch, static_cast<u16*>(y) + b * yBatch, rows, cols, xCol, yRow);
  else copyTranspose(static_cast<const u8*>(x) + b * xBatch, static_cast<u8*>(y) + b * yBatch, rows, cols, xCol, yRow);
}
