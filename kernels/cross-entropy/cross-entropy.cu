// loss and, in the same pass over memory, its gradient, which may lie over the logits. A block a row: each thread keeps a running maximum
// and sum of its elements, the block merges them, and a second sweep (mostly from cache) writes the gradient.
#include "../common/cuda/rows.cuh"

KERNEL cross_entropy_rows(const void* logits, const i32* labels, const float* scale, float* loss, void* dlogits, i64 rows, i64 n, i64 row, i64 drow, i64 labelStride, i32 dtype, i32 wide, i32 gradient) {
  afterPrevious();
  __shared__ float scratch[33];
  __shared__ float picked;
  for (i64 r = blockIdx.x; r < rows; r += gridDim.x) {
    const i32 label = labels[r * labelStride];
    if (label == -100) {
      if (threadIdx.x == 0) loss[r] = 0.f;
      if (gradient) {
        const float zero[8] = {};
        for (i64 i = threadIdx.x * 8; i < n; i += blockDim.x * 8) storeChunk(dlogits, dtype, r * drow, i, n, wide, zero);
      }
      continue;
    }
    float best = -INFINITY, sum = 0.f;
    for (i64 i = threadIdx.x * 8; i < n; i += blockDim.x * 8) {
      float v[8];
      loadChunk(logits, dtype, r * row, i, n, wide, -INFINITY, v);
      float top = v[0];
#pragma unroll
      for (int j = 1; j < 8; j++) top = fmaxf(top, v[j]);
      const float next = fmaxf(best, top);
      // While everything is −∞ the sum stays 0; a NaN in v makes it NaN.
      const float base = next == -INFINITY ? 0.f : next;
      float part = 0.f;
#pragma unroll
      for (int j = 0; j < 8; j++) part += expf(v[j] - base);
      sum = sum * expf(best - base) + part;
      best = next;
    }
    const float all = blockMax(best, scratch);
    const float base = all == -INFINITY ? 0.f : all;
    sum = blockSum(sum * expf(best - base), scratch);
    // Differences from the maximum stay exact where the log-sum-exp itself would round.
    const float rest = logf(sum);
    if (threadIdx.x == 0) {
      picked = label >= 0 && label < n ? loadFloat(logits, dtype, r * row + label) : bitsToFloat(0x7fc00000u);
      loss[r] = rest + (base - picked);
    }
    __syncthreads();
    if (!gradient) continue;
    const float by = scale ? scale[0] : 1.f;
    for (i64 i = threadIdx.x * 8; i < n; i += blockDim.x * 8) {
      float v[8];
      loadChunk(logits, dtype, r * row, i, n, wide, -INFINITY, v);
#pragma unroll
      for (int j = 0; j < 8; j++) v[j] = by * (expf(v[j] - base - rest) - (i + j == label ? 1.f : 0.f));
      storeChunk(dlogits, dtype, r * drow, i, n, wide, v);
    }
  }
}

/** The same for aligned rows of 16 bits, a multiple of eight wide: 1024 threads a row, four chunks in flight, the head of the row kept in shared memory. */
template <int T> DEVICE void crossEntropyFast(const void* logits, const i32* labels, const float* scale, float* loss, void* dlogits, i64 rows, i64 n, i64 row, i64 drow, i64 labelStride, i32 keep) {
  DYNAMIC_SHARED(u16, kept);
  __shared__ float scratch[33];
  __shared__ float picked;
  constexpr int unroll = 4;
  const int chunks = int(n >> 3), step = blockDim.x;
  for (i64 r = blockIdx.x; r < rows; r += gridDim.x) {
    const i32 label = labels[r * labelStride];
    if (label == -100) {
      if (threadIdx.x == 0) loss[r] = 0.f;
      const float zero[8] = {};
      for (int c = threadIdx.x; c < chunks; c += step) store8(dlogits, T, r * drow + i64(c) * 8, zero);
      continue;
    }
    float best = -INFINITY, sum = 0.f;
    for (int c0 = threadIdx.x; c0 < chunks; c0 += step * unroll) {
      Raw<T> in[unroll];
#pragma unroll
      for (int u = 0; u < unroll; u++)
        if (c0 + u * step < chunks) in[u] = loadRaw<T>(logits, r * row + i64(c0 + u * step) * 8);
#pragma unroll
      for (int u = 0; u < unroll; u++) {
        const int c = c0 + u * step;
        if (c >= chunks) break;
        if (c < keep) *reinterpret_cast<Vec16*>(kept + c * 8) = in[u].a[0];
        float v[8];
        unpack<T>(in[u], v);
        float top = v[0];
#pragma unroll
        for (int j = 1; j < 8; j++) top = fmaxf(top, v[j]);
        const float next = fmaxf(best, top), base = next == -INFINITY ? 0.f : next;
        float part = 0.f;
#pragma unroll
        for (int j = 0; j < 8; j++) part += expFor<T>(v[j] - base);
        sum = sum * expFor<T>(best - base) + part;
        best = next;
      }
    }
    const float all = blockMax(best, scratch), base = all == -INFINITY ? 0.f : all;
    sum = blockSum(sum * expFor<T>(best - base), scratch);
    const float rest = logf(sum), shift = base + rest;
    if (threadIdx.x == 0) {
      picked = label >= 0 && label < n ? loadFloat(logits, T, r * row + label) : bitsToFloat(0x7fc00000u);
      loss[r] = rest + (base - picked);
    }
    __syncthreads();
    const float by = scale ? scale[0] : 1.f;
    for (int c0 = threadIdx.x; c0 < chunks; c0 += step * unroll) {
      Raw<T> in[unroll];
#pragma unroll
      for (int u = 0; u < unroll; u++) {
        const int c = c0 + u * step;
        if (c < keep) in[u].a[0] = *reinterpret_cast<const Vec16*>(kept + c * 8);
        else if (c < chunks) in[u] = loadRaw<T>(logits, r * row + i64(c) * 8);
      }
#pragma unroll
      for (int u = 0; u < unroll; u++) {
        const int c = c0 + u * step;
        if (c >= chunks) break;
        float v[8];
        unpack<T>(in[u], v);
#pragma unroll
        for (int j = 0; j < 8; j++) v[j] = by * (expFor<T>(v[j] - shift) - (c * 8 + j == label ? 1.f : 0.f));
        store8(dlogits, T, r * drow + i64(c) * 8, v);
      }
    }
    __syncthreads();
  }
}
KERNEL __launch_bounds__(1024) cross_entropy_bf16(const void* logits, const i32* labels, const float* scale, float* loss, void* dlogits, i64 rows, i64 n, i64 row, i64 drow, i64 labelStride, i32 keep) { afterPrevious(); crossEntropyFast<BF16>(logits, labels, scale, loss, dlogits, rows, n, row, drow, labelStride, keep); }
KERNEL __launch_bounds__(1024) cross_entropy_f16(const void* logits, const i32* labels, const float* scale, float* loss, void* dlogits, i64 rows, i64 n, i64 row, i64 drow, i64 labelStride, i32 keep) { afterPrevious(); crossEntropyFast<F16>(logits, labels, scale, loss, dlogits, rows, n, row, drow, labelStride, keep); }
