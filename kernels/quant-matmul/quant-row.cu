// One row of x (bf16 or f16) times a 4-bit weight W [N, K]: y = W·x from the codes, memory-bound on them. A warp takes 16 rows of W by 512
// elements of K: a lane's sixteen bytes of codes are sixteen operand registers of the matrix instruction, looked up in a table in shared
// memory that has a copy for every lane. The instruction's eight columns, of which one row of x needs one, keep the eight blocks of 64 apart
// (column n holds x where it meets block n and zeros elsewhere), so a scale is applied once a block and row.
// kernels: quant_row_bf16 quant_row_f16
#include "../common/cuda/quant.cuh"

namespace {
constexpr int warps = 16, rowsOfTile = 16, slice = 512, groups = 4;
/** Pieces of x that a thread asks for before its codes, which would be in the way. */
constexpr int ahead = 4;
/** Where a lane finds its part of a task: codes of rows g and g + 8 from element k on, `left` elements before K, and blocks 2t and 2t + 1 of both. */
struct RowPlace {
  const u8* codes[2];
  u32 block[2][2];
  i32 left;
};
/** Codes that are on their way (groups of 128 elements, 32 of them this lane's), and what the scales are made of. */
struct RowTask {
  Vec16 codes[2][groups];
  u32 absmax[2][2];
  float nested[2][2];
};
}  // namespace

/** Read once: not kept in the first-level cache. */
DEVICE Vec16 loadOnce(const void* p) {
#ifdef LOWRANK_EMULATE
  return *static_cast<const Vec16*>(p);
#else
  Vec16 v;
  asm volatile("ld.global.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.w[0]), "=r"(v.w[1]), "=r"(v.w[2]), "=r"(v.w[3]) : "l"(p));
  return v;
#endif
}
/** The table lies at this address of shared memory, so that a byte permutation makes the address of an entry: 256 bytes each, of which 32 copies take the first half. */
constexpr u32 tableAt = 0x10000;
DEVICE const char* tablePlace(const char* shared) {
#ifdef LOWRANK_EMULATE
  return shared + (60 << 10);
#else
  return shared + (tableAt - sharedAddress(shared));
#endif
}
/** Entry of byte b of a word; `own` is tableAt + 4 · lane. */
template <int b> DEVICE u32 look(u32 word, u32 own, const char* table) {
#ifdef LOWRANK_EMULATE
  return *reinterpret_cast<const u32*>(table + ((word >> (8 * b) & 255) << 8) + (own - tableAt));
#else
  u32 v;
  asm("ld.shared.u32 %0, [%1];" : "=r"(v) : "r"(__byte_perm(word, own, 0x7604 | b << 4)));
  return v;
#endif
}

// Rows and elements that do not exist are read as others that do; x is zero there, and their sums are not kept.
DEVICE RowPlace placeOf(const Quantized& w, i32 N, i32 K, i32 slices, i32 firstTile, int task) {
  const int g = (threadIdx.x & 31) >> 2, t = threadIdx.x & 3, tile = task / slices, k0 = (task - tile * slices) * slice, k = k0 + t * 32;
  RowPlace p;
#pragma unroll
  for (int e = 0; e < 2; e++) {
    const i64 row = i64(min((firstTile + tile) * rowsOfTile + g + 8 * e, N - 1)) * K;
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const int at = k0 + 128 * t + 64 * i;
      p.block[e][i] = u32((row + (at < K ? at : 0)) >> w.shift);
    }
    p.codes[e] = w.codes + ((row + k) >> 1);
  }
  p.left = K - k;
  return p;
}

/** grid ⌈tiles / perBlock⌉, 512 threads. Dynamic shared memory: x, the partial sums [perBlock, slices, 16] f32, the table. */
template <int T>
DEVICE void quantRow(const u16* x, const Quantized& w, const void* c, u16* y, i32 N, i32 K, i64 cCol, i32 tc, i32 slices, i32 perBlock) {
  DYNAMIC_SHARED(char, xs);
  __shared__ float nestedMap[256];
  char* table = const_cast<char*>(tablePlace(xs));
  float* sums = reinterpret_cast<float*>(xs + i64(slices) * slice * 2);
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
  const int firstTile = blockIdx.x * perBlock, tiles = min(perBlock, (N + rowsOfTile - 1) / rowsOfTile - firstTile), tasks = tiles * slices;
  RowPlace p = placeOf(w, N, K, slices, firstTile, warp);
  RowTask f;
  const auto fetchScales = [&] {
#pragma unroll
    for (int e = 0; e < 2; e++)
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const u32 block = p.block[e][i];
        f.absmax[e][i] = w.nestedAbsmax ? static_cast<const u8*>(w.absmax)[block] : static_cast<const u32*>(w.absmax)[block];
        f.nested[e][i] = w.nestedAbsmax ? w.nestedAbsmax[block >> 8] : 0.f;
      }
  };
  const auto fetchGroup = [&](int u) {
#pragma unroll
    for (int e = 0; e < 2; e++) f.codes[e][u] = loadOnce(p.codes[e] + (u * 128 < p.left ? u * 64 : 0));
  };
  const float value = w.codebook[lane & 15], offset = w.offset ? w.offset[0] : 0.f;
  const float nested = w.nestedAbsmax && threadIdx.x < 256 ? w.nestedCodebook[threadIdx.x] : 0.f;
  // Past K are zeros.
  const auto piece = [&](int i) { return i * 8 < K ? *reinterpret_cast<const Vec16*>(x + i * 8) : Vec16{}; };
  // Pieces of 16 bytes; the four of a lane's 64 bytes are turned so that a warp reads them without bank conflicts.
  const auto place = [&](int i) { return reinterpret_cast<Vec16*>(xs + (i >> 2) * 64 + ((i + (i >> 3)) & 3) * 16); };
  Vec16 first[ahead];
#pragma unroll
  for (int j = 0; j < ahead; j++) first[j] = piece(threadIdx.x + j * warps * 32);
  // Codes travel while the table is made.
  if (warp < tasks) {
    fetchScales();
#pragma unroll
    for (int u = 0; u < groups; u++) fetchGroup(u);
  }
  const int pieces = slices * (slice / 8);
#pragma unroll
  for (int j = 0; j < ahead; j++)
    if (const int i = threadIdx.x + j * warps * 32; i < pieces) *place(i) = first[j];
  for (int i = threadIdx.x + ahead * warps * 32; i < pieces; i += warps * 32) *place(i) = piece(i);
  // The first element of a byte is its high half.
#pragma unroll
  for (int i = threadIdx.x; i < 256 * 8; i += warps * 32) {
    const int byte = i >> 3;
    const u32 pair = packHalf<T>(__shfl_sync(0xffffffffu, value, byte >> 4), __shfl_sync(0xffffffffu, value, byte & 15));
    *reinterpret_cast<Vec16*>(table + byte * 256 + (i & 7) * 16) = Vec16{{pair, pair, pair, pair}};
  }
  if (threadIdx.x < 256) nestedMap[threadIdx.x] = nested;
  __syncthreads();

  u32 own = tableAt + (lane << 2);
#ifndef LOWRANK_EMULATE
  asm volatile("" : "+r"(own)::"memory");  // no look-up before the barrier
#endif
  // This lane's column is block g of the slice, and its rows of the operand the 32 elements t of group g / 2: they meet where t / 2 = g mod 2.
  const bool holds = (t >> 1) == (g & 1);
  const int mine = g >> 1, turn = 2 * mine + (t >> 1);
  for (int now = warp; now < tasks; now += warps) {
    const int next = now + warps, from = (now % slices) * (slice * 2) + mine * 256 + t * 64;
    u32 xr[16];
#pragma unroll
    for (int j = 0; j < 4; j++) {
      const Vec16 piece = holds ? *reinterpret_cast<const Vec16*>(xs + from + ((j + turn) & 3) * 16) : Vec16{};
#pragma unroll
      for (int i = 0; i < 4; i++) xr[4 * j + i] = piece.w[i];
    }
    float scales[2][2];
#pragma unroll
    for (int e = 0; e < 2; e++)
#pragma unroll
      for (int i = 0; i < 2; i++) scales[e][i] = w.nestedAbsmax ? __fadd_rn(__fmul_rn(nestedMap[f.absmax[e][i]], f.nested[e][i]), offset) : bitsToFloat(f.absmax[e][i]);
    if (next < tasks) {
      p = placeOf(w, N, K, slices, firstTile, next);
      fetchScales();
    }
    float d[2][4] = {};
#pragma unroll
    for (int u = 0; u < groups; u++) {
      const Vec16 upper = f.codes[0][u], lower = f.codes[1][u];
      if (next < tasks) fetchGroup(u);
      const bool here = u == mine;
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const u32 first[4] = {look<0>(upper.w[i], own, table), look<0>(lower.w[i], own, table), look<1>(upper.w[i], own, table), look<1>(lower.w[i], own, table)};
        multiplyAdd<T>(d[0], first, here ? xr[4 * i] : 0, here ? xr[4 * i + 1] : 0);
        const u32 second[4] = {look<2>(upper.w[i], own, table), look<2>(lower.w[i], own, table), look<3>(upper.w[i], own, table), look<3>(lower.w[i], own, table)};
        multiplyAdd<T>(d[1], second, here ? xr[4 * i + 2] : 0, here ? xr[4 * i + 3] : 0);
      }
    }
#pragma unroll
    for (int e = 0; e < 2; e++) {
      float sum = (d[0][2 * e] + d[1][2 * e]) * scales[e][0] + (d[0][2 * e + 1] + d[1][2 * e + 1]) * scales[e][1];
      sum += __shfl_xor_sync(0xffffffffu, sum, 1);
      sum += __shfl_xor_sync(0xffffffffu, sum, 2);
      if (t == 0) sums[now * rowsOfTile + g + 8 * e] = sum;
    }
  }
  __syncthreads();
  for (int i = threadIdx.x; i < tiles * rowsOfTile; i += warps * 32) {
    const int tile = i / rowsOfTile, r = firstTile * rowsOfTile + i;
    if (r >= N) continue;
    float sum = 0.f;
    for (int s = 0; s < slices; s++) sum += sums[(tile * slices + s) * rowsOfTile + i % rowsOfTile];
    storeFloat(y, T, r, sum + (c ? loadFloat(c, tc, r * cCol) : 0.f));
  }
}

#define QUANT_ROW(name, T)                                                                                                                            \
  KERNEL __launch_bounds__(512, 1) name(const u16* x, Quantized w, const void* c, u16* y, i32 N, i32 K, i64 cCol, i32 tc, i32 slices, i32 perBlock) { \
    afterPrevious();                                                                                                                                  \
    quantRow<T>(x, w, c, y, N, K, cCol, tc, slices, perBlock);                                                                                        \
  }
QUANT_ROW(quant_row_bf16, BF16)
QUANT_ROW(quant_row_f16, F16)
