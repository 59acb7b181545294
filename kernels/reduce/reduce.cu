// Reductions over any axes. A block makes one output (or one of `splits` parts of it, which a second launch adds up); its threads stride
// over the reduced elements and meet in a tree, so the order depends on shapes alone. `reduce_columns`: one thread an output, for
// outputs that are contiguous in memory where the reduced axes are not.
#include "../common/cuda/common.cuh"

enum ReduceOp : int { SUM = 0, SUM_SQUARES = 1, MAX = 2, MIN = 3, ARGMAX = 4 };

DEVICE float identityOf(int op) { return op == MAX || op == ARGMAX ? -INFINITY : op == MIN ? INFINITY : 0.f; }
DEVICE float combine(int op, float a, float b) {
  if (op <= SUM_SQUARES) return a + b;
  if (a != a || b != b) return bitsToFloat(0x7fc00000u);
  return op == MIN ? fminf(a, b) : fmaxf(a, b);
}
/** True when (b, ib) is taken before (a, ia): the larger, the first of equals. NaN is taken only where it stands first of all. */
DEVICE bool larger(float b, i64 ib, float a, i64 ia) {
  if (a != a) return ia != 0 && (b == b || ib < ia);
  if (b != b) return ib == 0;
  return b > a || (b == a && ib < ia);
}

KERNEL reduce_rows(const void* x, void* y, Shape kept, Strides xKept, Strides yKept, Shape reduced, Strides xReduced, i32 op, i32 from, i32 to, i32 splits) {
  afterPrevious();
  __shared__ float scratch[32];
  __shared__ i64 scratchIndex[32];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
  for (i64 o = blockIdx.x; o < kept.count; o += gridDim.x) {
    const i64 base = offsetOf(kept, xKept, o);
    const i64 begin = reduced.count * blockIdx.y / splits, end = reduced.count * (blockIdx.y + 1) / splits;
    float acc = identityOf(op);
    i64 best = 0x7fffffffffffffffll;
    if (op == ARGMAX) {
      bool any = false;
      for (i64 i = begin + threadIdx.x; i < end; i += blockDim.x) {
        const float v = loadFloat(x, from, base + offsetOf(reduced, xReduced, i));
        if (!any || larger(v, i, acc, best)) { acc = v; best = i; any = true; }
      }
    } else {
      for (i64 i = begin + threadIdx.x; i < end; i += blockDim.x) {
        const float v = loadFloat(x, from, base + offsetOf(reduced, xReduced, i));
        acc = combine(op, acc, op == SUM_SQUARES ? v * v : v);
      }
    }
#pragma unroll
    for (int step = 16; step > 0; step >>= 1) {
      const float other = __shfl_xor_sync(0xffffffffu, acc, step);
      const i64 index = __shfl_xor_sync(0xffffffffu, best, step);
      if (op != ARGMAX) acc = combine(op, acc, other);
      else if (index != 0x7fffffffffffffffll && (best == 0x7fffffffffffffffll || larger(other, index, acc, best))) { acc = other; best = index; }
    }
    __syncthreads();
    if (lane == 0) { scratch[warp] = acc; scratchIndex[warp] = best; }
    __syncthreads();
    if (threadIdx.x == 0) {
      for (int w = 1; w < warps; w++) {
        if (op != ARGMAX) acc = combine(op, acc, scratch[w]);
        else if (scratchIndex[w] != 0x7fffffffffffffffll && (best == 0x7fffffffffffffffll || larger(scratch[w], scratchIndex[w], acc, best))) { acc = scratch[w]; best = scratchIndex[w]; }
      }
      if (splits > 1) static_cast<float*>(y)[o * splits + blockIdx.y] = acc;
      else if (op == ARGMAX) static_cast<i32*>(y)[offsetOf(kept, yKept, o)] = i32(best);
      else storeFloat(y, to, offsetOf(kept, yKept, o), acc);
    }
  }
}

/** Contiguous rows of floats, 8 elements a load; otherwise as reduce_rows for sums. */
KERNEL reduce_rows_dense(const void* x, void* y, i64 rows, i64 n, i64 rowStride, i32 op, i32 from, i32 to, i32 splits) {
  afterPrevious();
  __shared__ float scratch[33];
  for (i64 o = blockIdx.x; o < rows; o += gridDim.x) {
    const i64 vectors = n >> 3, begin = vectors * blockIdx.y / splits, end = vectors * (blockIdx.y + 1) / splits;
    float acc = 0.f;
    for (i64 i = begin + threadIdx.x; i < end; i += blockDim.x) {
      float v[8];
      load8(x, from, o * rowStride + i * 8, v);
      float s = 0.f;
#pragma unroll
      for (int j = 0; j < 8; j++) s += op == SUM_SQUARES ? v[j] * v[j] : v[j];
      acc += s;
    }
    if (int(blockIdx.y) == splits - 1)
      for (i64 i = vectors * 8 + threadIdx.x; i < n; i += blockDim.x) {
        const float v = loadFloat(x, from, o * rowStride + i);
        acc += op == SUM_SQUARES ? v * v : v;
      }
    acc = blockSum(acc, scratch);
    if (threadIdx.x == 0) {
      if (splits > 1) static_cast<float*>(y)[o * splits + blockIdx.y] = acc;
      else storeFloat(y, to, o, acc);
    }
  }
}

KERNEL reduce_columns(const void* x, void* y, Shape kept, Strides xKept, Strides yKept, Shape reduced, Strides xReduced, i32 op, i32 from, i32 to, i32 splits) {
  afterPrevious();
  for (i64 o = globalThread(); o < kept.count; o += globalThreads()) {
    const i64 base = offsetOf(kept, xKept, o);
    const i64 begin = reduced.count * blockIdx.y / splits, end = reduced.count * (blockIdx.y + 1) / splits;
    // Four chains, so that loads overlap; they meet in a fixed order.
    float acc[4];
#pragma unroll
    for (int j = 0; j < 4; j++) acc[j] = identityOf(op);
    i64 i = begin;
    for (; i + 4 <= end; i += 4)
#pragma unroll
      for (int j = 0; j < 4; j++) {
        const float v = loadFloat(x, from, base + offsetOf(reduced, xReduced, i + j));
        acc[j] = combine(op, acc[j], op == SUM_SQUARES ? v * v : v);
      }
    for (; i < end; i++) {
      const float v = loadFloat(x, from, base + offsetOf(reduced, xReduced, i));
      acc[0] = combine(op, acc[0], op == SUM_SQUARES ? v * v : v);
    }
    const float total = combine(op, combine(op, acc[0], acc[1]), combine(op, acc[2], acc[3]));
    if (splits > 1) static_cast<float*>(y)[o * splits + blockIdx.y] = total;
    else storeFloat(y, to, offsetOf(kept, yKept, o), total);
  }
}

KERNEL reduce_integers(const void* x, void* y, Shape kept, Strides xKept, Strides yKept, Shape reduced, Strides xReduced, i32 op, i32 dtype) {
  afterPrevious();
  for (i64 o = globalThread(); o < kept.count; o += globalThreads()) {
    const i64 base = offsetOf(kept, xKept, o);
    i64 acc = 0;
    for (i64 i = 0; i < reduced.count; i++) {
      const i64 v = loadInt(x, dtype, base + offsetOf(reduced, xReduced, i));
      acc = op == SUM ? acc + v : i == 0 ? v : op == MIN ? (v < acc ? v : acc) : (v > acc ? v : acc);
    }
    storeInt(y, dtype, offsetOf(kept, yKept, o), acc);
  }
}
