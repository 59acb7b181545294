// hopper
// Attention forward for sm_90a (Shah et al. 2024, FlashAttention-3): one warp fetches tiles with the bulk copy engine, two warp groups of
// 64 queries each multiply with wgmma. The scores of a tile are computed while the weighted sum of the tile before is still running.
// kernels: attention_hopper_bf16_64 attention_hopper_bf16_128 attention_hopper_f16_64 attention_hopper_f16_128
#include "../common/cuda/attention.cuh"
#include "../common/cuda/hopper.cuh"

#if HOPPER
constexpr float log2e = 1.4426950408889634f;
constexpr int queries = 128, keys = 128, stages = 2;

struct Barriers { u64 q, fullK[stages], fullV[stages], emptyK[stages], emptyV[stages]; };

/** A tile of `rows` rows of one head: D / 64 panels of 64 columns. */
template <int D, int rows> DEVICE void fetch(u16* tile, const TensorMap* map, u64* barrier, int t, int h, int b) {
  barrierExpect(barrier, rows * D * 2);
#pragma unroll
  for (int panel = 0; panel < D / 64; panel++) copyBox(tile + panel * rows * 64, map, barrier, panel * 64, h, t, b);
}

template <int T, int D> DEVICE void scores(float (&s)[64], u16* q, u16* k) {
  wgmmaFence();
#pragma unroll
  for (int step = 0; step < D / 16; step++) {
    const int panel = step / 4, inside = (step % 4) * 32;
    const u64 a = descriptorAlong(sharedAddress(q + panel * queries * 64) + inside);
    const u64 b = descriptorAlong(sharedAddress(k + panel * keys * 64) + inside);
    wgmmaShared<T>(s, a, b, step > 0);
  }
  wgmmaCommit();
}
template <int T, int D> DEVICE void weightedSum(float (&out)[D / 2], const u32 (&p)[keys / 16][4], u16* v) {
  wgmmaFence();
#pragma unroll
  for (int step = 0; step < keys / 16; step++) wgmmaRegisters<T>(out, p[step], descriptorAcross(sharedAddress(v) + step * 16 * 128, keys * 128));
  wgmmaCommit();
}

template <int T, int D> DEVICE void attentionHopper(const TensorMap& mq, const TensorMap& mk, const TensorMap& mv, u16* y, float* lse, const AttentionShape& s, const Heads& sy) {
  DYNAMIC_SHARED(u16, shared);
  __shared__ Barriers barriers;
  __shared__ int range[4];
  u16* qs = shared;
  u16* ks = qs + queries * D;
  u16* vs = ks + stages * keys * D;
  const int group = threadIdx.x >> 7;
  const int first = (int(gridDim.x) - 1 - int(blockIdx.x)) * queries, h = blockIdx.y, b = blockIdx.z, hkv = i64(h) * s.Hkv / s.Hq;
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
      fetch<D, queries>(qs, &mq, &barriers.q, first, h, b);
      for (int t = 0; t < tiles; t++) {
        const int stage = t % stages;
        const u32 parity = (t / stages) & 1;
        barrierWait(&barriers.emptyK[stage], parity ^ 1);
        fetch<D, keys>(ks + stage * keys * D, &mk, &barriers.fullK[stage], (tileLo + t) * keys, hkv, b);
        barrierWait(&barriers.emptyV[stage], parity ^ 1);
        fetch<D, keys>(vs + stage * keys * D, &mv, &barriers.fullV[stage], (tileLo + t) * keys, hkv, b);
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
    auto pack = [&]() {
#pragma unroll
      for (int k = 0; k < keys / 16; k++)
#pragma unroll
        for (int w = 0; w < 4; w++) {
          const int i = 4 * (2 * k + (w >> 1)) + 2 * (w & 1);
          p[k][w] = packHalf<T>(sc[i], sc[i + 1]);
        }
    };

    barrierWait(&barriers.q, 0);
    if (tiles > 0) {
      barrierWait(&barriers.fullK[0], 0);
      scores<T, D>(sc, q, ks);
      wgmmaWait<0>();
      wgmmaPin(sc);
      if (leads) barrierArrive(&barriers.emptyK[0]);
      soften(0);
      pack();
      for (int t = 1; t < tiles; t++) {
        const int stage = t % stages, before = (t - 1) % stages;
        barrierWait(&barriers.fullK[stage], (t / stages) & 1);
        scores<T, D>(sc, q, ks + stage * keys * D);
        barrierWait(&barriers.fullV[before], ((t - 1) / stages) & 1);
        weightedSum<T, D>(out, p, vs + before * keys * D);
        wgmmaWait<1>();
        wgmmaPin(sc);
        if (leads) barrierArrive(&barriers.emptyK[stage]);
        soften(t);
        wgmmaWait<0>();
        wgmmaPin(out);
        if (leads) barrierArrive(&barriers.emptyV[before]);
#pragma unroll
        for (int i = 0; i < D / 2; i++) out[i] *= shrink[(i >> 1) & 1];
        pack();
      }
      const int last = (tiles - 1) % stages;
      barrierWait(&barriers.fullV[last], ((tiles - 1) / stages) & 1);
      weightedSum<T, D>(out, p, vs + last * keys * D);
      wgmmaWait<0>();
      wgmmaPin(out);
    }

    // Through shared memory, so that rows leave in whole lines: this group's queries are not needed any more.
#pragma unroll
    for (int e = 0; e < 2; e++) {
      sum[e] += __shfl_xor_sync(0xffffffffu, sum[e], 1);
      sum[e] += __shfl_xor_sync(0xffffffffu, sum[e], 2);
      const int i = row0 + 8 * e;
      const bool none = sum[e] == 0.f;
      const float inverse = none ? 0.f : 1.f / sum[e];
      if ((lane & 3) == 0 && i < s.Tq) lse[(i64(b) * s.Hq + h) * s.Tq + i] = none ? -INFINITY : top[e] * s.scale + logf(sum[e]);
      const int row = warp * 16 + lane / 4 + 8 * e;
#pragma unroll
      for (int d = 0; d < D / 8; d++) {
        const int panel = d / 8, piece = d % 8;
        *reinterpret_cast<u32*>(q + panel * queries * 64 + row * 64 + ((piece ^ (row & 7)) << 3) + (lane & 3) * 2) =
            packHalf<T>(out[4 * d + 2 * e] * inverse, out[4 * d + 2 * e + 1] * inverse);
      }
    }
    namedBarrier(1 + part, 128);
    for (int i = threadIdx.x & 127; i < 64 * (D / 8); i += 128) {
      const int row = i / (D / 8), piece = i % (D / 8), query = first + part * 64 + row;
      if (query >= s.Tq) continue;
      const Vec16 line = *reinterpret_cast<const Vec16*>(q + (piece / 8) * queries * 64 + row * 64 + (((piece % 8) ^ (row & 7)) << 3));
      *reinterpret_cast<Vec16*>(y + b * sy.b + i64(query) * sy.t + h * sy.h + piece * 8) = line;
    }
  }
}
#define BODY(T, D) attentionHopper<T, D>(mq, mk, mv, y, lse, s, sy)
#else
#define BODY(T, D) __trap()
#endif

#define ATTENTION_HOPPER(name, T, D)                                                                                                                                          \
  KERNEL __launch_bounds__(384, 1) name(const __grid_constant__ TensorMap mq, const __grid_constant__ TensorMap mk, const __grid_constant__ TensorMap mv, u16* y, float* lse, \
                                        AttentionShape s, Heads sy) {                                                                                                         \
    BODY(T, D);                                                                                                                                                               \
  }
ATTENTION_HOPPER(attention_hopper_bf16_64, BF16, 64)
ATTENTION_HOPPER(attention_hopper_bf16_128, BF16, 128)
ATTENTION_HOPPER(attention_hopper_f16_64, F16, 64)
ATTENTION_HOPPER(attention_hopper_f16_128, F16, 128)
