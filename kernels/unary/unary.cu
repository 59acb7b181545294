// y = op(x). `unary_dense` moves 16 bytes a thread; `unary_strided` takes any view. Rows of the op come from table.ts.
#include "../common/cuda/common.cuh"
#include "elementwise.inc"

DEVICE float unaryFloat(int op, float x, float p, float q) {
  switch (op) {
#define CASE(code, expression) case code: return expression;
    UNARY_FLOAT(CASE)
#undef CASE
    default: return x;
  }
}
DEVICE double unaryInteger(int op, double x, double p, double q) {
  switch (op) {
#define CASE(code, expression) case code: return expression;
    UNARY_INTEGER(CASE)
#undef CASE
    default: return x;
  }
}

KERNEL unary_dense(const void* x, void* y, i64 n, i32 dtype, i32 op, double p64, double q64) {
  afterPrevious();
  const float p = float(p64), q = float(q64);
  const i64 vectors = n >> 3;
  for (i64 i = globalThread(); i < vectors; i += globalThreads()) {
    float v[8];
    load8(x, dtype, i * 8, v);
    switch (op) {
#define CASE(code, expression)                                       \
  case code: {                                                       \
    _Pragma("unroll") for (int j = 0; j < 8; j++) {                  \
      const float x = v[j];                                          \
      v[j] = expression;                                             \
    }                                                                \
    break;                                                           \
  }
      UNARY_FLOAT(CASE)
#undef CASE
      default: break;
    }
    store8(y, dtype, i * 8, v);
  }
  const i64 tail = (vectors << 3) + globalThread();
  if (tail < n) storeFloat(y, dtype, tail, unaryFloat(op, loadFloat(x, dtype, tail), p, q));
}

KERNEL unary_strided(const void* x, void* y, Shape shape, Strides sx, Strides sy, i32 dtype, i32 op, double p64, double q64) {
  afterPrevious();
  const float p = float(p64), q = float(q64);
  for (i64 i = globalThread(); i < shape.count; i += globalThreads()) {
    const i64 ix = offsetOf(shape, sx, i), iy = offsetOf(shape, sy, i);
    if (dtype <= BF16) storeFloat(y, dtype, iy, unaryFloat(op, loadFloat(x, dtype, ix), p, q));
    else storeInt(y, dtype, iy, saturate(unaryInteger(op, double(loadInt(x, dtype, ix)), p64, q64), dtype));
  }
}
