// y = value on a strided view (dense views are memsets of the driver). `bits` is the element as the host rounded it.
#include "../common/cuda/common.cuh"

KERNEL fill_strided(void* y, Shape shape, Strides sy, u32 bits, i32 bytes) {
  afterPrevious();
  for (i64 i = globalThread(); i < shape.count; i += globalThreads()) {
    const i64 at = offsetOf(shape, sy, i);
    if (bytes == 4) static_cast<u32*>(y)[at] = bits;
    else if (bytes == 2) static_cast<u16*>(y)[at] = u16(bits);
    else static_cast<u8*>(y)[at] = u8(bits);
  }
}
