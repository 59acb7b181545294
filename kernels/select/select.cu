// y = cond ? a : b on any views, by element size: nothing is computed with.
#include "../common/cuda/common.cuh"

KERNEL select_strided(const u8* cond, const void* a, const void* b, void* y, Shape shape, Strides sc, Strides sa, Strides sb, Strides sy, i32 bytes) {
  afterPrevious();
  for (i64 i = globalThread(); i < shape.count; i += globalThreads()) {
    const bool first = cond[offsetOf(shape, sc, i)] != 0;
    const void* from = first ? a : b;
    const i64 at = first ? offsetOf(shape, sa, i) : offsetOf(shape, sb, i), to = offsetOf(shape, sy, i);
    if (bytes == 4) static_cast<u32*>(y)[to] = static_cast<const u32*>(from)[at];
    else if (bytes == 2) static_cast<u16*>(y)[to] = static_cast<const u16*>(from)[at];
    else static_cast<u8*>(y)[to] = static_cast<const u8*>(from)[at];
  }
}
