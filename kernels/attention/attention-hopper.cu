// hopper
// Attention forward for sm_90a (Shah et al. 2024, FlashAttention-3): one warp fetches tiles with the bulk copy engine, two warp groups of
// 64 queries each multiply with wgmma. The scores of a tile are computed while the weighted sum of the tile before is still running.
// kernels: attention_hopper_bf16_64 attention_hopper_bf16_128 attention_hopper_f16_64 attention_hopper_f16_128
#include "../common/cuda/attention-hopper.cuh"

#if HOPPER
constexpr float log2e = 1.4426950408889634f;
constexpr int queries = 128, keys = 128, stages = 2;

struct Barriers { u64 q, fullK[stages], fullV[stages], emptyK[stages], emptyV[stages]; };

template <int T, int D> DEVICE void attentionHopper(const TensorMap& mq, const TensorMap& mk, const TensorMap& mv, u16* y, float* lse, const AttentionShape& s, const Heads& sy, int together) {
  DYNAMIC_SHARED(u16, shared);
  __shared__ Barriers barriers;
  __shared__ int range[4];
  u16* qs = shared;
  u16* ks = qs + queries * D;
  u16* vs = ks + stages * keys * D;
  const int group = threadIdx.x >> 7, tilesQ = (s.Tq + queries - 1) / queries;
  const Place place = placeOf(blockIdx.x, tilesQ, s.B * s.Hq, together);
  // The last queries see the most keys: they start first.
  const int first = (tilesQ - 1 - place.tile) * queries, h = place.head % s.Hq, b = place.head / s.Hq, hkv = i64(h) * s.Hkv / s.Hq;
  if (threadIdx.x == 0) {
    barrierInit(&barriers.q, 1);
#pragma unroll
    for (int i = 0; i < stages; i++) {
      barrierInit(&barriers.fullK[i], 1);
      barrierInit(&barriers.fullV[i], 1);
      barrierInit(&barriers.emptyK[i], 2);
      barrierInit(&barriers.emptyV[i], 2);
    }
    barrierInitFence();
  }
  const TileRange r = tileRange(s, b, first, queries, range);
  const int tileLo = r.anyLo / keys, tiles = (r.anyHi + keys - 1) / keys - tileLo;

  if (group == 0) {
    registersDown<24>();
    if (threadIdx.x == 0) {
      barrierExpect(&barriers.q, queries * D * 2);
      fetchTile<D, queries>(qs, &mq, &barriers.q, first, h, b);
      for (int t = 0; t < tiles; t++) {
        const int stage = t % stages;
        const u32 parity = (t / stages) & 1;
        barrierWait(&barriers.emptyK[stage], parity ^ 1);
        barrierExpect(&barriers.fullK[stage], keys * D * 2);
        fetchTile<D, keys>(ks + stage * keys * D, &mk, &barriers.fullK[stage], (tileLo + t) * keys, hkv, b);
        barrierWait(&barriers.emptyV[stage], parity ^ 1);
        barrierExpect(&barriers.fullV[stage], keys * D * 2);
        fetchTile<D, keys>(vs + stage * keys * D, &mv, &barriers.fullV[stage], (tileLo + t) * keys, hkv, b);
      }
    }
  } else {
    registersUp<240>();
    const int lane = threadIdx.x & 31, warp = (threadIdx.x >> 5) & 3, part = group - 1;
    const int row0 = first + part * 64 + warp * 16 + lane / 4;
    u16* q = qs + part * 64 * 64;  // rows of this group, in each panel
    const bool leads = (threadIdx.x & 127) == 0;
    int lo[2], hi[2];
#pragma unroll
    for (int j = 0; j < 2; j++) {
      lo[j] = hi[j] = 0;
      if (row0 + 8 * j < s.Tq) visible(s, b, row0 + 8 * j, lo[j], hi[j]);
    }
    float out[D / 2], sc[64];
#pragma unroll
    for (int i = 0; i < D / 2; i++) out[i] = 0.f;
    u32 p[keys / 16][4];
    float top[2] = {-INFINITY, -INFINITY}, sum[2] = {0.f, 0.f}, shrink[2];
    const float scale = s.scale * log2e;

    // Masks the scores of a tile, moves the running maximum, and turns scores into weights.
    auto soften = [&](int t) {
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
            const float w = exp2Fast(fmaf(sc[4 * i + 2 * e + c], scale, -base));
            sc[4 * i + 2 * e + c] = w;
            part += w;
          }
        sum[e] = sum[e] * shrink[e] + part;
      }
    };
    // The groups begin their products in turn, so that one softens scores while the tensor cores serve the other.
    if (part == 1 && tiles > 1) namedArrive(3, 256);
    barrierWait(&barriers.q, 0);
    if (tiles > 0) {
      barrierWait(&barriers.fullK[0], 0);
      rowProducts<T, D, queries, keys>(sc, q, ks);
      wgmmaWait<0>();
      wgmmaPin(sc);
      if (leads) barrierArrive(&barriers.emptyK[0]);
      soften(0);
      packLeft<T>(p, sc);
      for (int t = 1; t < tiles; t++) {
        const int stage = t % stages, before = (t - 1) % stages;
        namedBarrier(3 + part, 256);
        barrierWait(&barriers.fullK[stage], (t / stages) & 1);
        rowProducts<T, D, queries, keys>(sc, q, ks + stage * keys * D);
        barrierWait(&barriers.fullV[before], ((t - 1) / stages) & 1);
        weightedSum<T, D, keys>(out, p, vs + before * keys * D);
        if (part == 0 || t + 1 < tiles) namedArrive(3 + (part ^ 1), 256);
        wgmmaWait<1>();
        wgmmaPin(sc);
        if (leads) barrierArrive(&barriers.emptyK[stage]);
        soften(t);
        wgmmaWait<0>();
        wgmmaPin(out);
        if (leads) barrierArrive(&barriers.emptyV[before]);
#pragma unroll
        for (int i = 0; i < D / 2; i++) out[i] *= shrink[(i >> 1) & 1];
        packLeft<T>(p, sc);
      }
      const int last = (tiles - 1) % stages;
      barrierWait(&barriers.fullV[last], ((tiles - 1) / stages) & 1);
      weightedSum<T, D, keys>(out, p, vs + last * keys * D);
      wgmmaWait<0>();
      wgmmaPin(out);
    }

    float inverse[2];
#pragma unroll
    for (int e = 0; e < 2; e++) {
      sum[e] += __shfl_xor_sync(0xffffffffu, sum[e], 1);
      sum[e] += __shfl_xor_sync(0xffffffffu, sum[e], 2);
      const int i = row0 + 8 * e;
      const bool none = sum[e] == 0.f;
      inverse[e] = none ? 0.f : 1.f / sum[e];
      if ((lane & 3) == 0 && i < s.Tq) lse[(i64(b) * s.Hq + h) * s.Tq + i] = none ? -INFINITY : top[e] * s.scale + logf(sum[e]);
    }
    storeRows<T, D, queries>(out, inverse, q, 1 + part, y + b * sy.b + h * sy.h, sy.t, first + part * 64, s.Tq);
  }
}
#define BODY(T, D) attentionHopper<T, D>(mq, mk, mv, y, lse, s, sy, together)
#else
#define BODY(T, D) __trap()
#endif

#define ATTENTION_HOPPER(name, T, D)                                                                                                                                          \
  KERNEL __launch_bounds__(384, 1) name(const __grid_constant__ TensorMap mq, const __grid_constant__ TensorMap mk, const __grid_constant__ TensorMap mv, u16* y, float* lse, \
                                        AttentionShape s, Heads sy, i32 together) {                                                                                                                          \
    afterPrevious();                                                                                                                                                                                         \
    BODY(T, D);                                                                                                                                                               \
  }
ATTENTION_HOPPER(attention_hopper_bf16_64, BF16, 64)
ATTENTION_HOPPER(attention_hopper_bf16_128, BF16, 128)
ATTENTION_HOPPER(attention_hopper_f16_64, F16, 64)
ATTENTION_HOPPER(attention_hopper_f16_128, F16, 128)
