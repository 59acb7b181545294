// The low-rank pairs of a group in a few launches, and the joint product of a base and its pairs: [x, h] · [W, s·B]ᵀ.
#include "../common/cuda/rows.cuh"

constexpr int maxPairs = 8;
/** A pair of layer i: a [r, K], b [n, r]. Its rank columns begin at r0, its outputs at n0. */
struct Pair { const void *a, *b; i64 aRow, aCol, bRow, bCol; i32 r, r0, n, n0; float scale; i32 dtype; };
struct Pairs { Pair p[maxPairs]; i32 count, pad; };

/**
 * a [aRows, K]: the a's one under the other, zeros below. b [N, rest] at pitch ldB: s·b of each layer at its own rows and columns, zeros
 * elsewhere. Either may be left out (aRows = 0, N = 0). Eight elements a thread; rest is a multiple of 8.
 */
KERNEL lora_pack(Pairs pairs, void* a, void* b, i64 aRows, i64 K, i64 N, i64 rest, i64 ldB, i32 to) {
  afterPrevious();
  const i64 aChunks = (K + 7) / 8, bChunks = rest / 8, aItems = aRows * aChunks;
  for (i64 g = globalThread(); g < aItems + N * bChunks; g += globalThreads()) {
    float v[8] = {};
    if (g < aItems) {
      const i64 row = g / aChunks, c = (g - row * aChunks) * 8;
      for (int i = 0; i < pairs.count; i++) {
        const Pair& p = pairs.p[i];
        if (row < p.r0 || row >= p.r0 + p.r) continue;
#pragma unroll
        for (int j = 0; j < 8; j++)
          if (c + j < K) v[j] = loadFloat(p.a, p.dtype, (row - p.r0) * p.aRow + (c + j) * p.aCol);
      }
      storeChunk(a, to, row * K, c, K, K % 8 == 0, v);
    } else {
      const i64 n = (g - aItems) / bChunks, c = (g - aItems - n * bChunks) * 8;
      for (int i = 0; i < pairs.count; i++) {
        const Pair& p = pairs.p[i];
        if (n < p.n0 || n >= p.n0 + p.n) continue;
#pragma unroll
        for (int j = 0; j < 8; j++) {
          const i64 k = c + j - p.r0;
          if (k >= 0 && k < p.r) v[j] = p.scale * loadFloat(p.b, p.dtype, (n - p.n0) * p.bRow + k * p.bCol);
        }
      }
      storeChunk(b, to, n * ldB, c, rest, ldB % 8 == 0, v);
    }
  }
}

struct Cut { void *da, *db; i64 daRow, daCol, dbRow, dbCol; i32 r, r0, n, n0; float scale; i32 dtype; };
struct Cuts { Cut p[maxPairs]; i32 count, pad; };

/** The gradients of each pair out of the joint ones: a [R, K], b [N, R] (whose blocks off the diagonal mean nothing); db is scaled. */
KERNEL lora_unpack(Cuts cuts, const float* a, const float* b, i64 R, i64 K, i64 N) {
  afterPrevious();
  for (i64 g = globalThread(); g < R * K + N * R; g += globalThreads()) {
    const bool first = g < R * K;
    const i64 h = first ? g : g - R * K, width = first ? K : R, row = h / width, c = h - row * width;
    for (int i = 0; i < cuts.count; i++) {
      const Cut& p = cuts.p[i];
      if (first) {
        if (row >= p.r0 && row < p.r0 + p.r) storeFloat(p.da, p.dtype, (row - p.r0) * p.daRow + c * p.daCol, a[h]);
      } else if (row >= p.n0 && row < p.n0 + p.n && c >= p.r0 && c < p.r0 + p.r) {
        storeFloat(p.db, p.dtype, (row - p.n0) * p.dbRow + (c - p.r0) * p.dbCol, p.scale * b[h]);
      }
    }
  }
}

/** out [M, ld] = [x (K columns), h (R), zeros (rest − R)], rest ≥ R columns behind x. wide: 8 elements a thread. */
KERNEL lora_widen(const void* x, const void* h, void* out, i64 M, i64 K, i64 R, i64 rest, i64 xPitch, i64 hPitch, i64 ld, i32 dtype, i32 wide) {
  afterPrevious();
  const int step = wide ? 8 : 1;
  const i64 columns = (K + rest) / step;
  for (i64 g = globalThread(); g < M * columns; g += globalThreads()) {
    const i64 m = g / columns, c = (g - m * columns) * step;
    if (wide) {
      float v[8] = {};
      if (c < K) load8(x, dtype, m * xPitch + c, v);
      else if (c - K < R) loadChunk(h, dtype, m * hPitch, c - K, R, false, 0.f, v);
      store8(out, dtype, m * ld + c, v);
    } else {
      const float v = c < K ? loadFloat(x, dtype, m * xPitch + c) : c - K < R ? loadFloat(h, dtype, m * hPitch + c - K) : 0.f;
      storeFloat(out, dtype, m * ld + c, v);
    }
  }
}
