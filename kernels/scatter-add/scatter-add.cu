// y[ids[i], :] += x[i, :], summed in f32 in index order. Block i does the work of an id at its first occurrence: it walks the later ids in
// order and adds their rows, so no atomics are needed. grid (ids, ⌈row / 1024⌉), 256 threads.
#include "../common/cuda/common.cuh"

KERNEL scatter_add(const i32* ids, const void* x, void* y, Shape outer, Strides sIds, Strides xOuter, Shape row, Strides xRow, Strides yRow, i64 rows, i64 yStride, i32 idsSigned, i32 from, i32 to) {
  afterPrevious();
  __shared__ int matches[256];
  __shared__ int found;
  __shared__ int warpCounts[8];
  const i64 first = blockIdx.x;
  auto idAt = [&](i64 i) {
    const i32 raw = ids[offsetOf(outer, sIds, i)];
    return idsSigned ? i64(raw) : i64(u32(raw));
  };
  const i64 id = idAt(first);
  if (id < 0 || id >= rows) return;
  int earlier = 0;
  for (i64 i = threadIdx.x; i < first; i += 256) earlier |= idAt(i) == id;
  if (__syncthreads_or(earlier)) return;

  float acc[4];
  i64 at[4];
#pragma unroll
  for (int j = 0; j < 4; j++) {
    const i64 c = i64(blockIdx.y) * 1024 + j * 256 + threadIdx.x;
    at[j] = c < row.count ? c : -1;
    acc[j] = at[j] >= 0 ? loadFloat(y, to, id * yStride + offsetOf(row, yRow, c)) : 0.f;
  }
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  for (i64 base = first; base < outer.count; base += 256) {
    const i64 i = base + threadIdx.x;
    const bool match = i < outer.count && idAt(i) == id;
    const u32 votes = __ballot_sync(0xffffffffu, match);
    if (lane == 0) warpCounts[warp] = __popc(votes);
    __syncthreads();
    int before = __popc(votes & ((1u << lane) - 1));
    for (int w = 0; w < warp; w++) before += warpCounts[w];
    if (match) matches[before] = int(threadIdx.x);
    if (threadIdx.x == 0) {
      int total = 0;
      for (int w = 0; w < 8; w++) total += warpCounts[w];
      found = total;
    }
    __syncthreads();
    for (int m = 0; m < found; m++) {
      const i64 source = offsetOf(outer, xOuter, base + matches[m]);
#pragma unroll
      for (int j = 0; j < 4; j++)
        if (at[j] >= 0) acc[j] += loadFloat(x, from, source + offsetOf(row, xRow, at[j]));
    }
    __syncthreads();
  }
#pragma unroll
  for (int j = 0; j < 4; j++)
    if (at[j] >= 0) storeFloat(y, to, id * yStride + offsetOf(row, yRow, at[j]), acc[j]);
}
