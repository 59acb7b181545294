// y = x in another dtype. `cast_dense`: floats, 8 elements a thread; `cast_strided`: any pair of dtypes on any views.
#include "../common/cuda/common.cuh"

DEVICE void castOne(const void* x, int from, i64 ix, void* y, int to, i64 iy) {
  if (from <= BF16) {
    const float v = loadFloat(x, from, ix);
    if (to <= BF16) storeFloat(y, to, iy, v);
    else storeInt(y, to, iy, saturate(double(v), to));
  } else {
    const i64 v = loadInt(x, from, ix);
    if (to <= BF16) storeFloat(y, to, iy, float(v));
    else storeInt(y, to, iy, v);
  }
}

KERNEL cast_dense(const void* x, void* y, i64 n, i32 from, i32 to) {
  afterPrevious();
  const i64 vectors = n >> 3;
  for (i64 i = globalThread(); i < vectors; i += globalThreads()) {
    float v[8];
    load8(x, from, i * 8, v);
    store8(y, to, i * 8, v);
  }
  const i64 tail = (vectors << 3) + globalThread();
  if (tail < n) castOne(x, from, tail, y, to, tail);
}

KERNEL cast_strided(const void* x, void* y, Shape shape, Strides sx, Strides sy, i32 from, i32 to) {
  afterPrevious();
  for (i64 i = globalThread(); i < shape.count; i += globalThreads()) castOne(x, from, offsetOf(shape, sx, i), y, to, offsetOf(shape, sy, i));
}
