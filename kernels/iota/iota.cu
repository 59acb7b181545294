// y = start + step · (index along one axis): `inner` elements lie behind that axis, it has `size` entries.
#include "../common/cuda/common.cuh"

KERNEL iota_strided(void* y, Shape shape, Strides sy, i32 dtype, i64 inner, i64 size, double start, double step) {
  afterPrevious();
  for (i64 i = globalThread(); i < shape.count; i += globalThreads()) {
    const double v = start + step * double(i / inner % size);
    const i64 at = offsetOf(shape, sy, i);
    if (dtype <= BF16) storeFloat(y, dtype, at, float(v));
    else storeInt(y, dtype, at, i64(v));
  }
}
