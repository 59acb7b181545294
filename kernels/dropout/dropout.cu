// y = u ≥ p ? x/(1−p) : 0 with u made again from the element's index: no mask is stored.
#include "../common/cuda/common.cuh"

KERNEL dropout_strided(const void* x, const u32* seed, i64 seedStride, void* y, Shape shape, Strides sx, Strides sy, i32 dtype, float p, float keep, u32 site) {
  afterPrevious();
  const u32 key[4] = {seed[0], seed[seedStride], seed[2 * seedStride], seed[3 * seedStride]};
  for (i64 g = globalThread(); g * 4 < shape.count; g += globalThreads()) {
    const Philox r = philoxGroup(key, site, u32(g));
    for (int j = 0; j < 4 && g * 4 + j < shape.count; j++) {
      const i64 i = g * 4 + j;
      const float v = loadFloat(x, dtype, offsetOf(shape, sx, i));
      storeFloat(y, dtype, offsetOf(shape, sy, i), uniformOf(r.w[j]) >= p ? __fdiv_rn(v, keep) : 0.f);
    }
  }
}

KERNEL dropout_dense(const void* x, const u32* seed, i64 seedStride, void* y, i64 n, i32 dtype, float p, float keep, u32 site) {
  afterPrevious();
  const u32 key[4] = {seed[0], seed[seedStride], seed[2 * seedStride], seed[3 * seedStride]};
  for (i64 i = globalThread(); i * 8 < n; i += globalThreads()) {
    float v[8];
    if (i * 8 + 8 <= n) {
      load8(x, dtype, i * 8, v);
    } else {
      for (int j = 0; j < 8; j++) v[j] = i * 8 + j < n ? loadFloat(x, dtype, i * 8 + j) : 0.f;
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const Philox r = philoxGroup(key, site, u32(i * 2 + half));
#pragma unroll
      for (int j = 0; j < 4; j++) v[half * 4 + j] = uniformOf(r.w[j]) >= p ? __fdiv_rn(v[half * 4 + j], keep) : 0.f;
    }
    if (i * 8 + 8 <= n) {
      store8(y, dtype, i * 8, v);
    } else {
      for (int j = 0; j < 8 && i * 8 + j < n; j++) storeFloat(y, dtype, i * 8 + j, v[j]);
    }
  }
}
