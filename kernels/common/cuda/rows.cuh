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
