// Rows of a matrix in chunks of eight elements: one load each where rows are aligned and a multiple of eight wide, else element-wise.
#pragma once
#include "common.cuh"

/** Elements i … i+7 of a row that starts at `base`; past the end `fill`. */
DEVICE void loadChunk(const void* p, int dtype, i64 base, i64 i, i64 n, bool wide, float fill, float (&v)[8]) {
  if (wide) {
    load8(p, dtype, base + i, v);
  } else {
#pragma unroll
    for (int j = 0; j < 8; j++) v[j] = i + j < n ? loadFloat(p, dtype, base + i + j) : fill;
  }
}
DEVICE void storeChunk(void* p, int dtype, i64 base, i64 i, i64 n, bool wide, const float (&v)[8]) {
  if (wide) {
    store8(p, dtype, base + i, v);
  } else {
#pragma unroll
    for (int j = 0; j < 8; j++)
      if (i + j < n) storeFloat(p, dtype, base + i + j, v[j]);
  }
}

// ---- eight elements as they lie in memory: loads of many chunks are issued before the first is converted ----
template <int T> struct Raw { Vec16 a[T == F32 ? 2 : 1]; };
template <int T> DEVICE Raw<T> loadRaw(const void* p, i64 i) {
  Raw<T> r;
  const char* at = static_cast<const char*>(p) + i * (T == F32 ? 4 : 2);
  r.a[0] = *reinterpret_cast<const Vec16*>(at);
  if constexpr (T == F32) r.a[1] = *reinterpret_cast<const Vec16*>(at + 16);
  return r;
}
template <int T> DEVICE void unpack(const Raw<T>& r, float (&v)[8]) {
#pragma unroll
  for (int j = 0; j < 4; j++) {
    if constexpr (T == F32) {
      v[j] = bitsToFloat(r.a[0].w[j]);
      v[4 + j] = bitsToFloat(r.a[T == F32 ? 1 : 0].w[j]);
    } else {
      v[2 * j] = T == BF16 ? bitsToFloat(r.a[0].w[j] << 16) : f16ToFloat(u16(r.a[0].w[j]));
      v[2 * j + 1] = T == BF16 ? bitsToFloat(r.a[0].w[j] & 0xffff0000u) : f16ToFloat(u16(r.a[0].w[j] >> 16));
    }
  }
}
/** exp for 16-bit results: the hardware's, a few units of f32 off. */
template <int T> DEVICE float expFor(float x) { return T == F32 ? expf(x) : __expf(x); }

/** Sum over the block in one barrier: `scratch` holds 2 × 32 floats, `turn` alternates between calls. */
DEVICE float blockSumOnce(float v, float (*scratch)[32], int turn) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
  v = warpSum(v);
  if (lane == 0) scratch[turn][warp] = v;
  __syncthreads();
  float sum = 0.f;
  for (int w = 0; w < warps; w++) sum += scratch[turn][w];
  return sum;
}
