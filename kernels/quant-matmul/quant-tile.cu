// Up to eight rows times a 4-bit weight W [N, K] on tensor cores: y = x·Wᵀ from the codes. A warp makes the products of 16 rows of W with 512
// elements of x; a byte of codes is an operand register of the matrix instruction, looked up in a table in shared memory that has a copy for
// every lane. The order of elements within an instruction is free: both operands take the one in which codes come in.
// kernels: quant_tile_bf16 quant_tile_f16
#include "../common/cuda/quant.cuh"

namespace {
constexpr int warps = 16, chunk = 64, chunks = 8;  // elements that share a scale, and such pieces of a task

/** Codes of rows g and g + 8 of a tile that are on their way, with what their scales are made of: this lane's share is pieces t and t + 4. */
struct Task {
  Vec8 codes[2][chunks];
  u32 absmax[2][2];
  float nested[2][2];
};
}  // namespace

DEVICE void fetchTask(Task& f, const Quantized& w, i64 row, i64 N, i64 K, i64 at, int t) {
#pragma unroll
  for (int e = 0; e < 2; e++) {
    const i64 r = row + 8 * e;
#pragma unroll
    for (int c = 0; c < chunks; c++) {
      const i64 k = at + c * chunk;
      f.codes[e][c] = r < N && k < K ? *reinterpret_cast<const Vec8*>(w.codes + ((r * K + k) >> 1) + t * 8) : Vec8{};
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const i64 k = at + (t + 4 * i) * chunk, block = (r * K + k) >> w.shift;
      const bool inside = r < N && k < K;
      f.absmax[e][i] = !inside ? 0 : w.nestedAbsmax ? static_cast<const u8*>(w.absmax)[block] : static_cast<const u32*>(w.absmax)[block];
      f.nested[e][i] = inside && w.nestedAbsmax ? w.nestedAbsmax[block >> 8] : 0.f;
    }
  }
}

/** grid ⌈tiles / perBlock⌉, 512 threads. Dynamic shared memory: x [M, K] and the partial sums [perBlock, slices, 16, M] f32. */
template <int T> DEVICE void quantTile(const u16* x, const Quantized& w, const void* c, u16* y, i64 N, i64 K, i64 xRow, i64 cRow, i64 cCol, i64 yRow, i32 M, i32 tc, i32 slices, i32 perBlock) {
  __shared__ u32 table[256 * 32];
  __shared__ float nestedMap[256];
  DYNAMIC_SHARED(u16, xs);
  float* sums = reinterpret_cast<float*>(xs + M * K);
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
  const i64 firstTile = i64(blockIdx.x) * perBlock;
  const int tiles = int(min(i64(perBlock), (N + 15) / 16 - firstTile)), tasks = tiles * slices;
  const auto rowOf = [&](int task) { return (firstTile + task / slices) * 16 + g; };
  const auto startOf = [&](int task) { return i64(task % slices) * chunk * chunks; };
  // Codes travel while the table is made.
  Task task;
  if (warp < tasks) fetchTask(task, w, rowOf(warp), N, K, startOf(warp), t);
  const float value = w.codebook[lane & 15], offset = w.offset ? w.offset[0] : 0.f;
  // A warp's 32 entries are one byte's copies; the first element of a byte is its high half.
  for (int i = threadIdx.x; i < 256 * 32; i += warps * 32) {
    const int byte = i >> 5;
    table[i] = packHalf<T>(__shfl_sync(0xffffffffu, value, byte >> 4), __shfl_sync(0xffffffffu, value, byte & 15));
  }
  if (w.nestedAbsmax)
    for (int i = threadIdx.x; i < 256; i += warps * 32) nestedMap[i] = w.nestedCodebook[i];
  for (i64 i = threadIdx.x; i < M * (K / 8); i += warps * 32) {
    const i64 m = i / (K / 8), k = i % (K / 8) * 8;
    *reinterpret_cast<Vec16*>(xs + m * K + k) = *reinterpret_cast<const Vec16*>(x + m * xRow + k);
  }
  __syncthreads();

  const char* copy = reinterpret_cast<const char*>(table);
  const u32 own = lane << 2;
  const auto look = [&](u32 word, int byte) {
    // An entry's 32 copies take 128 bytes.
    return *reinterpret_cast<const u32*>(copy + (((byte == 0 ? word << 7 : word >> (8 * byte - 7)) & 0x7f80u) | own));
  };
  for (int now = warp; now < tasks; now += warps) {
    const Task f = task;
    if (now + warps < tasks) fetchTask(task, w, rowOf(now + warps), N, K, startOf(now + warps), t);
    float scales[2][2];
#pragma unroll
    for (int e = 0; e < 2; e++)
#pragma unroll
      for (int i = 0; i < 2; i++) scales[e][i] = w.nestedAbsmax ? __fadd_rn(__fmul_rn(nestedMap[f.absmax[e][i]], f.nested[e][i]), offset) : bitsToFloat(f.absmax[e][i]);
    float total[4] = {};
#pragma unroll
    for (int c8 = 0; c8 < chunks; c8++) {
      const i64 k = startOf(now) + c8 * chunk + t * 16;
      Vec16 b[2] = {};
      if (g < M && k < K) {
        b[0] = *reinterpret_cast<const Vec16*>(xs + g * K + k);
        b[1] = *reinterpret_cast<const Vec16*>(xs + g * K + k + 8);
      }
      float d[4] = {};
#pragma unroll
      for (int j = 0; j < 4; j++) {
        const u32 lo = f.codes[0][c8].w[j >> 1], hi = f.codes[1][c8].w[j >> 1];
        const int byte = 2 * (j & 1);
        const u32 a[4] = {look(lo, byte), look(hi, byte), look(lo, byte + 1), look(hi, byte + 1)};
        multiplyAdd<T>(d, a, b[j >> 1].w[2 * (j & 1)], b[j >> 1].w[2 * (j & 1) + 1]);
      }
      const int from = (lane & ~3) | (c8 & 3);
      const float upper = __shfl_sync(0xffffffffu, scales[0][c8 >> 2], from), lower = __shfl_sync(0xffffffffu, scales[1][c8 >> 2], from);
      total[0] = fmaf(d[0], upper, total[0]);
      total[1] = fmaf(d[1], upper, total[1]);
      total[2] = fmaf(d[2], lower, total[2]);
      total[3] = fmaf(d[3], lower, total[3]);
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const int m = 2 * t + (i & 1);
      if (m < M) sums[(i64(now) * 16 + g + 8 * (i >> 1)) * M + m] = total[i];
    }
  }
  __syncthreads();
  for (int i = threadIdx.x; i < tiles * 16 * M; i += warps * 32) {
    const int m = i % M, r = i / M % 16, tile = i / M / 16;
    const i64 n = (firstTile + tile) * 16 + r;
    if (n >= N) continue;
    float sum = 0.f;
    for (int s = 0; s < slices; s++) sum += sums[((i64(tile) * slices + s) * 16 + r) * M + m];
    storeFloat(y, T, m * yRow + n, sum + (c ? loadFloat(c, tc, m * cRow + n * cCol) : 0.f));
  }
}

#define QUANT_TILE(name, T)                                                                                                                                                                     \
  KERNEL __launch_bounds__(512, 1) name(const u16* x, Quantized w, const void* c, u16* y, i64 N, i64 K, i64 xRow, i64 cRow, i64 cCol, i64 yRow, i32 M, i32 tc, i32 slices, i32 perBlock) {                  \
    afterPrevious();                                                                                                                                                                                        \
    quantTile<T>(x, w, c, y, N, K, xRow, cRow, cCol, yRow, M, tc, slices, perBlock);                                                                                                       \
  }
QUANT_TILE(quant_tile_bf16, BF16)
QUANT_TILE(quant_tile_f16, F16)
