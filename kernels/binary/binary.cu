// y = op(a, b); comparisons give u8. kind: 0 arithmetic, 1 compare, 2 bits, 3 product of integers. `binary_dense` moves 16 bytes a thread, `binary_strided` takes any views.
#include "../common/cuda/common.cuh"
#include "elementwise.inc"

DEVICE float binaryFloat(int op, float a, float b) {
  switch (op) {
#define CASE(code, expression) case code: return expression;
    BINARY_FLOAT(CASE)
#undef CASE
    default: return a;
  }
}
DEVICE double binaryInteger(int op, double a, double b) {
  switch (op) {
#define CASE(code, expression) case code: return expression;
    BINARY_INTEGER(CASE)
#undef CASE
    default: return a;
  }
}
DEVICE u32 binaryBits(int op, u32 a, u32 b) {
  switch (op) {
#define CASE(code, expression) case code: return expression;
    BINARY_BITS(CASE)
#undef CASE
    default: return a;
  }
}

KERNEL binary_dense(const void* a, const void* b, void* y, i64 n, i32 dtype, i32 op, i32 compares) {
  afterPrevious();
  const i64 vectors = n >> 3;
  for (i64 i = globalThread(); i < vectors; i += globalThreads()) {
    float va[8], vb[8];
    load8(a, dtype, i * 8, va);
    load8(b, dtype, i * 8, vb);
    switch (op) {
#define CASE(code, expression)                                       \
  case code: {                                                       \
    _Pragma("unroll") for (int j = 0; j < 8; j++) {                  \
      const float a = va[j], b = vb[j];                              \
      va[j] = expression;                                            \
    }                                                                \
    break;                                                           \
  }
      BINARY_FLOAT(CASE)
#undef CASE
      default: break;
    }
    if (compares) {
      Vec8 bytes = {{0, 0}};
#pragma unroll
      for (int j = 0; j < 8; j++) bytes.w[j >> 2] |= u32(va[j] != 0.f) << (8 * (j & 3));
      *reinterpret_cast<Vec8*>(static_cast<u8*>(y) + i * 8) = bytes;
    } else {
      store8(y, dtype, i * 8, va);
    }
  }
  const i64 tail = (vectors << 3) + globalThread();
  if (tail < n) {
    const float v = binaryFloat(op, loadFloat(a, dtype, tail), loadFloat(b, dtype, tail));
    if (compares) static_cast<u8*>(y)[tail] = v != 0.f;
    else storeFloat(y, dtype, tail, v);
  }
}

KERNEL binary_strided(const void* a, const void* b, void* y, Shape shape, Strides sa, Strides sb, Strides sy, i32 dtype, i32 op, i32 kind) {
  afterPrevious();
  for (i64 i = globalThread(); i < shape.count; i += globalThreads()) {
    const i64 ia = offsetOf(shape, sa, i), ib = offsetOf(shape, sb, i), iy = offsetOf(shape, sy, i);
    if (dtype <= BF16) {
      const float v = binaryFloat(op, loadFloat(a, dtype, ia), loadFloat(b, dtype, ib));
      if (kind == 1) static_cast<u8*>(y)[iy] = v != 0.f;
      else storeFloat(y, dtype, iy, v);
    } else if (kind == 2) {
      storeInt(y, dtype, iy, binaryBits(op, u32(loadInt(a, dtype, ia)), u32(loadInt(b, dtype, ib))));
    } else if (kind == 3) {
      // A product's low bits need more than f64 has.
      storeInt(y, dtype, iy, loadInt(a, dtype, ia) * loadInt(b, dtype, ib));
    } else {
      const double v = binaryInteger(op, double(loadInt(a, dtype, ia)), double(loadInt(b, dtype, ib)));
      if (kind == 1) static_cast<u8*>(y)[iy] = v != 0.0;
      else storeInt(y, dtype, iy, fabs(v) < 9.2e18 ? i64(v) : 0);
    }
  }
}
