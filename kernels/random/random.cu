// Philox numbers by element index: a thread makes the four elements of one counter. distribution 0 bits, 1 uniform, 2 normal.
#include "../common/cuda/common.cuh"

KERNEL random_strided(const u32* seed, i64 seedStride, void* y, Shape shape, Strides sy, i32 dtype, i32 distribution, u32 site) {
  afterPrevious();
  const u32 key[4] = {seed[0], seed[seedStride], seed[2 * seedStride], seed[3 * seedStride]};
  for (i64 g = globalThread(); g * 4 < shape.count; g += globalThreads()) {
    const Philox r = philoxGroup(key, site, u32(g));
    float v[4] = {};
    if (distribution == 1) {
#pragma unroll
      for (int j = 0; j < 4; j++) v[j] = uniformOf(r.w[j]);
    } else if (distribution == 2) {
#pragma unroll
      for (int j = 0; j < 4; j += 2) {
        const float u = (float(r.w[j] >> 8) + 1.f) * 5.9604644775390625e-8f, angle = uniformOf(r.w[j + 1]);
        const float radius = sqrtf(-2.f * logf(u));
        float s, c;
        sincospif(2.f * angle, &s, &c);
        v[j] = radius * c;
        v[j + 1] = radius * s;
      }
    }
    for (int j = 0; j < 4 && g * 4 + j < shape.count; j++) {
      const i64 at = offsetOf(shape, sy, g * 4 + j);
      if (distribution == 0) static_cast<u32*>(y)[at] = r.w[j];
      else storeFloat(y, dtype, at, v[j]);
    }
  }
}
