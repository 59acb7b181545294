// hopper
// Attention forward for sm_90a (Shah et al. 2024, FlashAttention-3): one warp fetches tiles with the bulk copy engine, two warp groups of
// 64 queries each multiply with wgmma. The scores of a tile are computed while the weighted sum of the tile before is still running. Blocks
// stay, one a multiprocessor, and walk a list of tiles: while the groups finish one and the copy engine writes it out, the next is fetched.
// kernels: attention_hopper_bf16_64 attention_hopper_bf16_128 attention_hopper_f16_64 attention_hopper_f16_128
#include "../common/cuda/attention-hopper.cuh"

#if HOPPER
constexpr float log2e = 1.4426950408889634f;
constexpr int queries = 128, keys = 128, stages = 2;

struct Barriers { u64 fullQ, emptyQ, fullK[stages], fullV[stages], emptyK[stages], emptyV[stages]; };

/** Parity of the phase in which the nth tile of keys is in its stage. */
DEVICE u32 parityOf(int n) { return (n / stages) & 1; }
/** tileRange by every warp for itself. */
DEVICE TileRange warpRange(const AttentionShape& s, int b, int first, int count) {
  if (!s.starts && !s.ends) {
    const int last = min(first + count, s.Tq) - 1, beyond = s.Tk - s.Tq + 1;
    return {0, s.causal ? max(0, min(s.Tk, last + beyond)) : s.Tk, 0, s.causal ? min(s.Tk, first + beyond) : s.Tk};
  }
  int anyLo = 0x7fffffff, anyHi = 0, allLo = 0, allHi = 0x7fffffff;
  for (int r = threadIdx.x & 31; r < count; r += 32) {
    if (first + r >= s.Tq) continue;
    int lo, hi;
    visible(s, b, first + r, lo, hi);
    if (lo < hi) { anyLo = min(anyLo, lo); anyHi = max(anyHi, hi); }
    allLo = max(allLo, lo);
    allHi = min(allHi, hi);
  }
  // These sums are known to be the same in every lane; of shuffles the compiler would not know it.
  anyLo = __reduce_min_sync(0xffffffffu, anyLo);
  anyHi = __reduce_max_sync(0xffffffffu, anyHi);
  allLo = __reduce_max_sync(0xffffffffu, allLo);
  allHi = __reduce_min_sync(0xffffffffu, allHi);
  return {min(anyLo, anyHi), anyHi, allLo, allHi};
}

/** Writes a box of shared memory to (d, h, t, b); rows that do not exist are left out. One thread calls it. */
DEVICE void storeBox(const TensorMap* map, const void* from, int d, int h, int t, int b) {
  asm volatile("cp.async.bulk.tensor.4d.global.shared::cta.bulk_group [%0, {%2, %3, %4, %5}], [%1];" ::"l"(map), "r"(sharedAddress(from)), "r"(d), "r"(h), "r"(t), "r"(b) : "memory");
}

template <int T, int D> DEVICE void attentionHopper(const TensorMap& mq, const TensorMap& mk, const TensorMap& mv, const TensorMap& my, float* lse, const AttentionShape& s, int together) {
  DYNAMIC_SHARED(u16, shared);
  __shared__ Barriers barriers;
  u16* qs = shared;
  u16* ks = qs + queries * D;
  u16* vs = ks + stages * keys * D;
  u16* os = vs + stages * keys * D;
  const int group = threadIdx.x >> 7, tilesQ = (s.Tq + queries - 1) / queries, heads = s.B * s.Hq, total = tilesQ * heads;
  if (threadIdx.x == 0) {
    barrierInit(&barriers.fullQ, 1);
    barrierInit(&barriers.emptyQ, 2);
#pragma unroll
    for (int i = 0; i < stages; i++) {
      barrierInit(&barriers.fullK[i], 1);
      barrierInit(&barriers.fullV[i], 1);
      barrierInit(&barriers.emptyK[i], 2);
      barrierInit(&barriers.emptyV[i], 2);
    }
    barrierInitFence();
  }
  __syncthreads();
  // Blocks go through the list forwards and backwards in turn: who had the longest of one round has the shortest of the next.
  const auto position = [&](int round) { return round * gridDim.x + (round & 1 ? gridDim.x - 1 - blockIdx.x : blockIdx.x); };
  struct Work { int first, h, b; };
  const auto workAt = [&](int at) {
    const Place place = placeOf(at, tilesQ, heads, together);
    return Work{(tilesQ - 1 - place.tile) * queries, place.head % s.Hq, place.head / s.Hq};
  };

  if (group == 0) {
    registersDown<40>();
    if (threadIdx.x < 32) {
      const bool leads = threadIdx.x == 0;
      int n = 0;  // tiles of keys so far
      for (int round = 0, at; (at = position(round)) < total; round++) {
        const Work w = workAt(at);
        const int hkv = w.h * s.Hkv / s.Hq;
        const TileRange r = warpRange(s, w.b, w.first, queries);
        const int tileLo = r.anyLo / keys, tiles = (r.anyHi + keys - 1) / keys - tileLo;
        if (leads) {
          const auto fetchQ = [&] {
            barrierWait(&barriers.emptyQ, (round & 1) ^ 1);
            barrierExpect(&barriers.fullQ, queries * D * 2);
            fetchTile<D, queries>(qs, &mq, &barriers.fullQ, w.first, w.h, w.b);
          };
          if (tiles <= 0) fetchQ();
          for (int t = 0; t < tiles; t++) {
            const int stage = (n + t) % stages;
            const u32 parity = parityOf(n + t);
            barrierWait(&barriers.emptyK[stage], parity ^ 1);
            barrierExpect(&barriers.fullK[stage], keys * D * 2);
            fetchTile<D, keys>(ks + stage * keys * D, &mk, &barriers.fullK[stage], (tileLo + t) * keys, hkv, w.b);
            if (t == 0) fetchQ();
            barrierWait(&barriers.emptyV[stage], parity ^ 1);
            barrierExpect(&barriers.fullV[stage], keys * D * 2);
            fetchTile<D, keys>(vs + stage * keys * D, &mv, &barriers.fullV[stage], (tileLo + t) * keys, hkv, w.b);
          }
        }
        n += max(tiles, 0);
        __syncwarp();
      }
    }
  } else {
    registersUp<232>();
    const int lane = threadIdx.x & 31, warp = (threadIdx.x >> 5) & 3, part = group - 1;
    u16* q = qs + part * 64 * 64;  // rows of this group, in each panel
    u16* o = os + part * 64 * 64;
    const bool leads = (threadIdx.x & 127) == 0;
    const float scale = s.scale * log2e;
    int n = 0;  // tiles of keys so far
    for (int round = 0, at; (at = position(round)) < total; round++) {
      const Work w = workAt(at);
      const int mine = w.first + part * 64, row0 = mine + warp * 16 + lane / 4;
      const TileRange r = warpRange(s, w.b, w.first, queries);
      const int tileLo = r.anyLo / keys, tiles = (r.anyHi + keys - 1) / keys - tileLo;
      int lo[2], hi[2];
#pragma unroll
      for (int j = 0; j < 2; j++) {
        lo[j] = hi[j] = 0;
        if (row0 + 8 * j < s.Tq) visible(s, w.b, row0 + 8 * j, lo[j], hi[j]);
      }
      float out[D / 2], sc[64];
#pragma unroll
      for (int i = 0; i < D / 2; i++) out[i] = 0.f;
      u32 p[keys / 16][4];
      float top[2] = {-INFINITY, -INFINITY}, sum[2] = {0.f, 0.f}, shrink[2];

      // Masks the scores of a tile, moves the running maximum, and turns scores into weights.
      const auto soften = [&](int t) {
        const int col0 = (tileLo + t) * keys;
        if (col0 < r.allLo || col0 + keys > r.allHi) {
#pragma unroll
          for (int i = 0; i < 64; i++) {
            const int j = col0 + (i >> 2) * 8 + (lane & 3) * 2 + (i & 1), e = (i >> 1) & 1;
            if (j < lo[e] || j >= hi[e]) sc[i] = -INFINITY;
          }
        }
#pragma unroll
        for (int e = 0; e < 2; e++) {
          float next = top[e];
#pragma unroll
          for (int i = 0; i < 16; i++) next = fmaxf(next, fmaxf(sc[4 * i + 2 * e], sc[4 * i + 2 * e + 1]));
          next = fmaxf(next, __shfl_xor_sync(0xffffffffu, next, 1));
          next = fmaxf(next, __shfl_xor_sync(0xffffffffu, next, 2));
          const float base = next == -INFINITY ? 0.f : next * scale;
          shrink[e] = exp2Fast(top[e] * scale - base);
          top[e] = next;
          float part = 0.f;
#pragma unroll
          for (int i = 0; i < 16; i++)
#pragma unroll
            for (int c = 0; c < 2; c++) {
              const float x = exp2Fast(fmaf(sc[4 * i + 2 * e + c], scale, -base));
              sc[4 * i + 2 * e + c] = x;
              part += x;
            }
          sum[e] = sum[e] * shrink[e] + part;
        }
      };
      // The groups begin their products in turn, so that one softens scores while the tensor cores serve the other.
      if (part == 1 && tiles > 1) namedArrive(3, 256);
      barrierWait(&barriers.fullQ, round & 1);
      if (tiles <= 0) {
        if (leads) barrierArrive(&barriers.emptyQ);
      } else {
        barrierWait(&barriers.fullK[n % stages], parityOf(n));
        rowProducts<T, D, queries, keys>(sc, q, ks + n % stages * keys * D);
        wgmmaWait<0>();
        wgmmaPin(sc);
        if (leads) {
          barrierArrive(&barriers.emptyK[n % stages]);
          if (tiles == 1) barrierArrive(&barriers.emptyQ);
        }
        soften(0);
        packLeft<T>(p, sc);
        barrierWait(&barriers.fullV[n % stages], parityOf(n));
        for (int t = 1; t < tiles; t++) {
          const int stage = (n + t) % stages, before = (n + t - 1) % stages;
          namedBarrier(3 + part, 256);
          barrierWait(&barriers.fullK[stage], parityOf(n + t));
          rowProducts<T, D, queries, keys>(sc, q, ks + stage * keys * D);
          weightedSum<T, D, keys>(out, p, vs + before * keys * D);
          if (part == 0 || t + 1 < tiles) namedArrive(3 + (part ^ 1), 256);
          wgmmaWait<1>();
          wgmmaPin(sc);
          if (leads) {
            barrierArrive(&barriers.emptyK[stage]);
            if (t + 1 == tiles) barrierArrive(&barriers.emptyQ);
          }
          soften(t);
          // The assembler would wait for the weighted sum before it softens. This wait, which has to be somewhere, takes a zero that is made
          // of the new sums (signs of numbers that are not negative), so the other one stays behind.
          barrierWait(&barriers.fullV[stage], parityOf(n + t) + ((floatToBits(sum[0]) | floatToBits(sum[1])) >> 31));
          wgmmaWait<0>();
          wgmmaPin(out);
          if (leads) barrierArrive(&barriers.emptyV[before]);
#pragma unroll
          for (int i = 0; i < D / 2; i++) out[i] *= shrink[(i >> 1) & 1];
          packLeft<T>(p, sc);
        }
        const int last = (n + tiles - 1) % stages;
        weightedSum<T, D, keys>(out, p, vs + last * keys * D);
        wgmmaWait<0>();
        wgmmaPin(out);
        if (leads) barrierArrive(&barriers.emptyV[last]);
        n += tiles;
      }

      float inverse[2];
#pragma unroll
      for (int e = 0; e < 2; e++) {
        sum[e] += __shfl_xor_sync(0xffffffffu, sum[e], 1);
        sum[e] += __shfl_xor_sync(0xffffffffu, sum[e], 2);
        const int i = row0 + 8 * e;
        const bool none = sum[e] == 0.f;
        inverse[e] = none ? 0.f : 1.f / sum[e];
        if ((lane & 3) == 0 && i < s.Tq) lse[(i64(w.b) * s.Hq + w.h) * s.Tq + i] = none ? -INFINITY : top[e] * s.scale + logf(sum[e]);
      }
      // The copy engine has read what it stored for the tile before.
      if (leads) asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
      namedBarrier(1 + part, 128);
#pragma unroll
      for (int e = 0; e < 2; e++) {
        const int row = warp * 16 + lane / 4 + 8 * e;
#pragma unroll
        for (int c = 0; c < D / 8; c++)
          *reinterpret_cast<u32*>(o + (c / 8) * queries * 64 + row * 64 + (((c % 8) ^ (row & 7)) << 3) + (lane & 3) * 2) =
              packHalf<T>(out[4 * c + 2 * e] * inverse[e], out[4 * c + 2 * e + 1] * inverse[e]);
      }
      asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
      namedBarrier(1 + part, 128);
      if (leads && mine < s.Tq) {
#pragma unroll
        for (int panel = 0; panel < D / 64; panel++) storeBox(&my, o + panel * queries * 64, panel * 64, w.h, mine, w.b);
        asm volatile("cp.async.bulk.commit_group;" ::: "memory");
      }
    }
    if (leads) asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
  }
}
#define BODY(T, D) attentionHopper<T, D>(mq, mk, mv, my, lse, s, together)
#else
#define BODY(T, D) __trap()
#endif

#define ATTENTION_HOPPER(name, T, D)                                                                                                                               \
  KERNEL __launch_bounds__(384, 1) name(const __grid_constant__ TensorMap mq, const __grid_constant__ TensorMap mk, const __grid_constant__ TensorMap mv,          \
                                        const __grid_constant__ TensorMap my, float* lse, AttentionShape s, i32 together) {                                        \
    afterPrevious();                                                                                                                                               \
    BODY(T, D);                                                                                                                                                    \
  }
ATTENTION_HOPPER(attention_hopper_bf16_64, BF16, 64)
ATTENTION_HOPPER(attention_hopper_bf16_128, BF16, 128)
ATTENTION_HOPPER(attention_hopper_f16_64, F16, 64)
ATTENTION_HOPPER(attention_hopper_f16_128, F16, 128)
