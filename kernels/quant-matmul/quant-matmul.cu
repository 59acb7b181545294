// Few rows times a 4-bit weight W [N, K]: memory-bound on the codes, so the weight is never written out.
// quant_row: one row of x, K a multiple of 32. A warp keeps 1024 elements of x in registers and walks rows of W, sixteen bytes of codes a
// lane; a byte's two values come from a table in shared memory that has a copy for every bank.
// quant_vector_*: any shape. A warp makes one column of y: each lane takes four bytes (eight codes) of every 256 elements, values from the
// lanes' codebook by shuffles, x from cache.
// kernels: quant_vector_1 quant_vector_2 quant_vector_4
#include "../common/cuda/quant.cuh"

template <int M> DEVICE void quantVector(const void* x, const Quantized& w, const void* c, void* y, i64 N, i64 K, i64 xRow, i64 cRow, i64 cCol, i64 yRow, i32 tx, i32 tc) {
  constexpr int unroll = M == 1 ? 8 : 4;
  const int lane = threadIdx.x & 31;
  const i64 n = i64(blockIdx.x) * (blockDim.x >> 5) + (threadIdx.x >> 5);
  if (n >= N) return;
  const float table = w.codebook[lane & 15], offset = w.offset ? w.offset[0] : 0.f;
  const u32* codes = reinterpret_cast<const u32*>(w.codes + n * K / 2);
  const i64 vectors = K >> 3;
  float acc[M] = {};
  for (i64 base = 0; base < vectors; base += 32 * unroll) {
    u32 word[unroll];
    float scale[unroll];
#pragma unroll
    for (int u = 0; u < unroll; u++) {
      const i64 v = base + u * 32 + lane;
      word[u] = v < vectors ? codes[v] : 0;
    }
#pragma unroll
    for (int u = 0; u < unroll; u++) {
      const i64 v = base + u * 32 + lane;
      scale[u] = v < vectors ? scaleOf(w, w.nestedCodebook, offset, (n * K + (v << 3)) >> w.shift) : 0.f;
    }
#pragma unroll
    for (int u = 0; u < unroll; u++) {
      if (base + u * 32 >= vectors) break;
      const i64 v = base + u * 32 + lane;
      float e[8];
#pragma unroll
      for (int j = 0; j < 8; j++) e[j] = __shfl_sync(0xffffffffu, table, int(word[u] >> (8 * (j >> 1) + 4 * (1 - (j & 1))) & 15));
      if (v < vectors) {
#pragma unroll
        for (int m = 0; m < M; m++) {
          float xv[8];
          load8(x, tx, m * xRow + v * 8, xv);
          float part = 0.f;
#pragma unroll
          for (int j = 0; j < 8; j++) part = fmaf(e[j], xv[j], part);
          acc[m] = fmaf(part, scale[u], acc[m]);
        }
      }
    }
  }
#pragma unroll
  for (int m = 0; m < M; m++) {
    const float sum = warpSum(acc[m]);
    if (lane == 0) storeFloat(y, tx, m * yRow + n, sum + (c ? loadFloat(c, tc, m * cRow + n * cCol) : 0.f));
  }
}

#define QUANT_VECTOR(M)                                                                                                             \
  KERNEL __launch_bounds__(256) quant_vector_##M(const void* x, Quantized w, const void* c, void* y, i64 N, i64 K, i64 xRow, i64 cRow, i64 cCol, i64 yRow, i32 tx, i32 tc) {                  \
    afterPrevious();                                                                                                                                                                          \
    quantVector<M>(x, w, c, y, N, K, xRow, cRow, cCol, yRow, tx, tc);                                                               \
  }
QUANT_VECTOR(1)
QUANT_VECTOR(2)
QUANT_VECTOR(4)

struct __align__(8) Pair { float first, second; };
/** Elements of x a warp keeps, rows of W it fetches at a time, and most partial sums of a block. */
constexpr int slice = 1024, batch = 4, partials = 2048;

/** Codes of `batch` rows that are on their way, and what their scales are made of. */
struct Fetched { Vec16 codes[batch]; u32 absmax[batch]; float nested[batch]; };

DEVICE void fetchRows(Fetched& f, const Quantized& w, int row, int end, i64 K, i64 at, bool inside) {
#pragma unroll
  for (int r = 0; r < batch; r++) {
    f.codes[r] = Vec16{};
    f.absmax[r] = 0;
    f.nested[r] = 0.f;
    if (!inside || row + r >= end) continue;
    const i64 element = (row + r) * K + at, block = element >> w.shift;
    f.codes[r] = *reinterpret_cast<const Vec16*>(w.codes + (element >> 1));
    if (w.nestedAbsmax) {
      f.absmax[r] = static_cast<const u8*>(w.absmax)[block];
      f.nested[r] = w.nestedAbsmax[block >> 8];
    } else {
      f.absmax[r] = static_cast<const u32*>(w.absmax)[block];
    }
  }
}

/** grid ⌈N / rows⌉, 32 · slices · groups threads: warp w takes elements 1024·(w mod slices) … of the rows of group w / slices. */
KERNEL __launch_bounds__(512, 1) quant_row(const void* x, Quantized w, const void* c, void* y, i32 N, i64 K, i64 cCol, i32 tx, i32 tc, i32 slices, i32 rows) {
  afterPrevious();
  __shared__ Pair table[256 * 16];
  __shared__ float nestedMap[256];
  __shared__ float sums[partials];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, mine = warp % slices, group = warp / slices, groups = (blockDim.x >> 5) / slices;
  const int first = blockIdx.x * rows, end = min(N, first + rows);
  const i64 at = i64(mine) * slice + lane * 32;
  const bool inside = at < K;
  // Codes travel while the table is made.
  Fetched even, odd;
  int row = first + group * batch;
  const int stride = groups * batch;
  fetchRows(even, w, row, end, K, at, inside);
  fetchRows(odd, w, row + stride, end, K, at, inside);
  const float value = w.codebook[lane & 15], offset = w.offset ? w.offset[0] : 0.f;
  float xs[32];
#pragma unroll
  for (int i = 0; i < 4; i++) {
    float v[8] = {};
    if (inside) load8(x, tx, at + i * 8, v);
#pragma unroll
    for (int j = 0; j < 8; j++) xs[i * 8 + j] = v[j];
  }
  // Entry (byte, copy): the first element is the high half. A warp's 32 entries are two bytes' copies.
  for (int i = threadIdx.x; i < 256 * 16; i += blockDim.x) {
    const int byte = i >> 4;
    table[i] = Pair{__shfl_sync(0xffffffffu, value, byte >> 4), __shfl_sync(0xffffffffu, value, byte & 15)};
  }
  if (w.nestedAbsmax)
    for (int i = threadIdx.x; i < 256; i += blockDim.x) nestedMap[i] = w.nestedCodebook[i];
  __syncthreads();

  const char* copy = reinterpret_cast<const char*>(table + (lane & 15));
  auto use = [&](const Fetched& f, int row) {
    float sum[batch];
#pragma unroll
    for (int r = 0; r < batch; r++) {
      float a = 0.f, b = 0.f;
#pragma unroll
      for (int i = 0; i < 4; i++)
#pragma unroll
        for (int byte = 0; byte < 4; byte++) {
          // An entry's sixteen copies take 128 bytes.
          const u32 word = f.codes[r].w[i], offset = (byte == 0 ? word << 7 : word >> (8 * byte - 7)) & 0x7f80;
          const Pair e = *reinterpret_cast<const Pair*>(copy + offset);
          a = fmaf(e.first, xs[8 * i + 2 * byte], a);
          b = fmaf(e.second, xs[8 * i + 2 * byte + 1], b);
        }
      const float scale = w.nestedAbsmax ? __fadd_rn(__fmul_rn(nestedMap[f.absmax[r]], f.nested[r]), offset) : bitsToFloat(f.absmax[r]);
      sum[r] = (a + b) * scale;
    }
    // Four sums over 32 lanes: lanes 0, 8, 16 and 24 end with a row each.
    const bool upper = lane & 16, odd = lane & 8;
    const float s0 = (upper ? sum[2] : sum[0]) + __shfl_xor_sync(0xffffffffu, upper ? sum[0] : sum[2], 16);
    const float s1 = (upper ? sum[3] : sum[1]) + __shfl_xor_sync(0xffffffffu, upper ? sum[1] : sum[3], 16);
    float s = (odd ? s1 : s0) + __shfl_xor_sync(0xffffffffu, odd ? s0 : s1, 8);
#pragma unroll
    for (int o = 4; o > 0; o >>= 1) s += __shfl_xor_sync(0xffffffffu, s, o);
    const int r = row + (lane >> 3);
    if ((lane & 7) == 0 && r < end) sums[(r - first) * slices + mine] = s;
  };
  for (; row < end; row += 2 * stride) {
    use(even, row);
    fetchRows(even, w, row + 2 * stride, end, K, at, inside);
    if (row + stride < end) use(odd, row + stride);
    fetchRows(odd, w, row + 3 * stride, end, K, at, inside);
  }
  __syncthreads();
  for (int r = threadIdx.x; r < end - first; r += blockDim.x) {
    float sum = 0.f;
    for (int i = 0; i < slices; i++) sum += sums[r * slices + i];
    storeFloat(y, tx, first + r, sum + (c ? loadFloat(c, tc, (first + r) * cCol) : 0.f));
  }
}
