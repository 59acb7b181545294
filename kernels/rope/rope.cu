// Rotates pairs (i, i + R/2) of each head by the angle of its position. A thread takes eight pairs (or one, where rows are not aligned).
// Heads from `turned` on are copied.
#include "../common/cuda/rows.cuh"

KERNEL rope_heads(const void* x, const float* cosines, const float* sines, const i32* positions, void* y, i32 T, i32 H, i32 D, i32 half, i64 count, i64 xB, i64 xT, i64 xH, i64 yB, i64 yT, i64 yH, i64 pB, i64 pT, i64 cosRow, i64 sinRow, i32 dtype, float sign, i32 wide, i32 copyRest, i32 turned) {
  afterPrevious();
  const int step = wide ? 8 : 1, chunks = half / step;
  const int rest = copyRest ? D - 2 * half : 0, items = chunks + rest;
  for (i64 g = globalThread(); g < count * items; g += globalThreads()) {
    const i64 head = g / items;
    const int c = int(g - head * items);
    const i64 h = head % H, bt = head / H, t = bt % T, b = bt / T;
    const i64 xBase = b * xB + t * xT + h * xH, yBase = b * yB + t * yT + h * yH;
    if (c >= chunks) {
      const int i = 2 * half + c - chunks;
      storeFloat(y, dtype, yBase + i, loadFloat(x, dtype, xBase + i));
      continue;
    }
    const int i = c * step;
    if (h >= turned) {
      for (int side = 0; side < 2; side++)
        for (int j = i + side * half; j < i + side * half + step; j += step) {
          if (wide) {
            float v[8];
            load8(x, dtype, xBase + j, v);
            store8(y, dtype, yBase + j, v);
          } else storeFloat(y, dtype, yBase + j, loadFloat(x, dtype, xBase + j));
        }
      continue;
    }
    const i64 p = positions[b * pB + t * pT];
    if (wide) {
      float lo[8], hi[8], cs[8], sn[8];
      load8(x, dtype, xBase + i, lo);
      load8(x, dtype, xBase + half + i, hi);
#pragma unroll
      for (int j = 0; j < 8; j++) { cs[j] = cosines[p * cosRow + i + j]; sn[j] = sign * sines[p * sinRow + i + j]; }
#pragma unroll
      for (int j = 0; j < 8; j++) {
        const float a = lo[j], z = hi[j];
        lo[j] = a * cs[j] - z * sn[j];
        hi[j] = z * cs[j] + a * sn[j];
      }
      store8(y, dtype, yBase + i, lo);
      store8(y, dtype, yBase + half + i, hi);
    } else {
      const float cs = cosines[p * cosRow + i], sn = sign * sines[p * sinRow + i];
      const float a = loadFloat(x, dtype, xBase + i), z = loadFloat(x, dtype, xBase + half + i);
      storeFloat(y, dtype, yBase + i, a * cs - z * sn);
      storeFloat(y, dtype, yBase + half + i, z * cs + a * sn);
    }
  }
}
