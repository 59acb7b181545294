// hopper
// Attention backward for sm_90a, in the two passes of attention-backward.cu (so that two runs agree bit for bit), on wgmma: one warp fetches
// tiles with the bulk copy engine, two warp groups multiply. Seven products where atomics would need five; neither pass waits for the other
// group or for memory.
// kernels: attention_dq_hopper_bf16_64 attention_dq_hopper_bf16_128 attention_dq_hopper_f16_64 attention_dq_hopper_f16_128
// kernels: attention_dkdv_hopper_bf16_64 attention_dkdv_hopper_bf16_128 attention_dkdv_hopper_f16_64 attention_dkdv_hopper_f16_128
#include "../common/cuda/attention-hopper.cuh"

#if HOPPER
constexpr float log2e = 1.4426950408889634f;
constexpr int keys = 128;
/** A warp group's lane 0 of each warp says that a stage was read. */
constexpr int readers = 8;

// ---- dq: 64 queries a warp group, 128 keys a step ----

constexpr int queries = 128, stages = 2;
struct QueryBarriers { u64 q, fullK[stages], fullV[stages], emptyK[stages], emptyV[stages]; };

template <int T, int D> DEVICE void dqHopper(const TensorMap& mdy, const TensorMap& mq, const TensorMap& mk, const TensorMap& mv, const float* lse, const float* delta, u16* dq, const AttentionShape& s, const Heads& sdq, int together) {
  DYNAMIC_SHARED(u16, shared);
  __shared__ QueryBarriers barriers;
  __shared__ int range[4];
  u16* qs = shared;
  u16* gs = qs + queries * D;
  u16* ks = gs + queries * D;
  u16* vs = ks + stages * keys * D;
  const int group = threadIdx.x >> 7, tilesQ = (s.Tq + queries - 1) / queries;
  const Place place = placeOf(blockIdx.x, tilesQ, s.B * s.Hq, together);
  const int first = (tilesQ - 1 - place.tile) * queries, h = place.head % s.Hq, b = place.head / s.Hq, hkv = i64(h) * s.Hkv / s.Hq;
  if (threadIdx.x == 0) {
    barrierInit(&barriers.q, 1);
#pragma unroll
    for (int i = 0; i < stages; i++) {
      barrierInit(&barriers.fullK[i], 1);
      barrierInit(&barriers.fullV[i], 1);
      barrierInit(&barriers.emptyK[i], readers);
      barrierInit(&barriers.emptyV[i], readers);
    }
    barrierInitFence();
  }
  const TileRange r = tileRange(s, b, first, queries, range);
  const int tileLo = r.anyLo / keys, tiles = (r.anyHi + keys - 1) / keys - tileLo;

  if (group == 0) {
    registersDown<24>();
    if (threadIdx.x == 0) {
      barrierExpect(&barriers.q, 2 * queries * D * 2);
      fetchTile<D, queries>(qs, &mq, &barriers.q, first, h, b);
      fetchTile<D, queries>(gs, &mdy, &barriers.q, first, h, b);
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
    u16* q = qs + part * 64 * 64;
    u16* g = gs + part * 64 * 64;
    const int row0 = first + part * 64 + warp * 16 + lane / 4;
    float logSum[2], slope[2];
#pragma unroll
    for (int e = 0; e < 2; e++) {
      logSum[e] = slope[e] = 0.f;
      if (row0 + 8 * e < s.Tq) {
        const i64 at = (i64(b) * s.Hq + h) * s.Tq + row0 + 8 * e;
        logSum[e] = lse[at] * log2e;
        slope[e] = delta[at];
      }
    }
    float grad[D / 2], sc[keys / 2], dp[keys / 2];
    u32 ds[keys / 16][4];
#pragma unroll
    for (int i = 0; i < D / 2; i++) grad[i] = 0.f;
    const float scale = s.scale * log2e;

    auto weights = [&](int t) {
      const int col0 = (tileLo + t) * keys;
#pragma unroll
      for (int i = 0; i < keys / 2; i++) sc[i] = exp2Fast(fmaf(sc[i], scale, -logSum[(i >> 1) & 1]));
      if (col0 >= r.allLo && col0 + keys <= r.allHi) return;
      int lo[2], hi[2];
#pragma unroll
      for (int e = 0; e < 2; e++) {
        lo[e] = hi[e] = 0;
        if (row0 + 8 * e < s.Tq) visible(s, b, row0 + 8 * e, lo[e], hi[e]);
      }
#pragma unroll
      for (int i = 0; i < keys / 2; i++) {
        const int j = col0 + (i >> 2) * 8 + (lane & 3) * 2 + (i & 1), e = (i >> 1) & 1;
        if (j < lo[e] || j >= hi[e]) sc[i] = 0.f;
      }
    };
    auto slopes = [&]() {
#pragma unroll
      for (int i = 0; i < keys / 2; i++) sc[i] *= dp[i] - slope[(i >> 1) & 1];
    };
    // The sums of the tile before run beside the scores of this one; their operands' registers are wanted for dy·vᵀ.
    barrierWait(&barriers.q, 0);
    for (int t = 0; t < tiles; t++) {
      const int stage = t % stages;
      const u32 parity = (t / stages) & 1;
      barrierWait(&barriers.fullK[stage], parity);
      rowProducts<T, D, queries, keys>(sc, q, ks + stage * keys * D);
      if (t > 0) {
        weightedSum<T, D, keys>(grad, ds, ks + (stage ^ 1) * keys * D);
        wgmmaWait<0>();
        wgmmaPin(grad);
        if (lane == 0) barrierArrive(&barriers.emptyK[stage ^ 1]);
      } else {
        wgmmaWait<0>();
      }
      wgmmaPin(sc);
      barrierWait(&barriers.fullV[stage], parity);
      rowProducts<T, D, queries, keys>(dp, g, vs + stage * keys * D);
      weights(t);
      wgmmaWait<0>();
      wgmmaPin(dp);
      if (lane == 0) barrierArrive(&barriers.emptyV[stage]);
      slopes();
      packLeft<T>(ds, sc);
    }
    if (tiles > 0) weightedSum<T, D, keys>(grad, ds, ks + (tiles - 1) % stages * keys * D);
    wgmmaWait<0>();
    wgmmaPin(grad);
    const float factor[2] = {s.scale, s.scale};
    storeRows<T, D, queries>(grad, factor, q, 1 + part, dq + b * sdq.b + h * sdq.h, sdq.t, first + part * 64, s.Tq);
  }
}

// ---- dk and dv: 64 keys a warp group, 64 queries a step, head after head of the group ----

constexpr int step = 64, depth = 4;
enum Seen : int { seenByAll, seenBySome, seenNoMore };
/** What the fetching warp knows of a step's queries: log2 of the sum of weights, Δ, and which keys they see. */
struct Step {
  float logSum[step], slope[step];
  int lo[step], hi[step];
  int seen, pad[3];
};
struct KeyBarriers { u64 kv, full[depth], empty[depth]; };

template <int T, int D> DEVICE void dkdvHopper(const TensorMap& mdy, const TensorMap& mq, const TensorMap& mk, const TensorMap& mv, const float* lse, const float* delta, u16* dk, u16* dv, const AttentionShape& s, const Heads& sdk, const Heads& sdv, int together) {
  DYNAMIC_SHARED(u16, shared);
  __shared__ KeyBarriers barriers;
  __shared__ __align__(16) Step steps[depth];
  u16* ks = shared;
  u16* vs = ks + keys * D;
  u16* qs = vs + keys * D;
  u16* gs = qs + depth * step * D;
  const int group = threadIdx.x >> 7, lane = threadIdx.x & 31, warp = (threadIdx.x >> 5) & 3;
  const Place place = placeOf(blockIdx.x, (s.Tk + keys - 1) / keys, s.B * s.Hkv, together);
  const int first = place.tile * keys, hkv = place.head % s.Hkv, b = place.head / s.Hkv, heads = s.Hq / s.Hkv;
  if (threadIdx.x == 0) {
    barrierInit(&barriers.kv, 1);
#pragma unroll
    for (int i = 0; i < depth; i++) {
      barrierInit(&barriers.full[i], 33);  // the fetching warp's lanes, and the bytes they wait for
      barrierInit(&barriers.empty[i], 256);  // every lane that read what lanes of the fetching warp wrote by plain stores
    }
    barrierInitFence();
  }
  __syncthreads();

  if (group == 0) {
    registersDown<24>();
    if (warp == 0) {
      if (lane == 0) {
        barrierExpect(&barriers.kv, 2 * keys * D * 2);
        fetchTile<D, keys>(ks, &mk, &barriers.kv, first, hkv, b);
        fetchTile<D, keys>(vs, &mv, &barriers.kv, first, hkv, b);
      }
      // Causal: queries before `from` see none of these keys.
      const int from = s.causal ? max(0, first - (s.Tk - s.Tq)) / step : 0, last = min(first + keys, s.Tk);
      int n = 0;
      for (int h = hkv * heads; h < (hkv + 1) * heads; h++) {
        for (int tile = (s.Tq + step - 1) / step - 1; tile >= from; tile--) {
          // This warp has 24 registers: what is cheap to find again is not kept.
          bool any = false, all = true;
#pragma unroll 1
          for (int i = tile * step + lane; i < min(s.Tq, (tile + 1) * step); i += 32) {
            int lo, hi;
            visible(s, b, i, lo, hi);
            any |= lo < hi && lo < last && hi > first;
            all &= lo <= first && hi >= last;
          }
          if (!__any_sync(0xffffffffu, any)) continue;
          all = __all_sync(0xffffffffu, all);
          const int stage = n % depth;
          barrierWait(&barriers.empty[stage], ((n / depth) & 1) ^ 1);
          if (lane == 0) {
            barrierExpect(&barriers.full[stage], 2 * step * D * 2);
            fetchTile<D, step>(qs + stage * step * D, &mq, &barriers.full[stage], tile * step, h, b);
            fetchTile<D, step>(gs + stage * step * D, &mdy, &barriers.full[stage], tile * step, h, b);
            steps[stage].seen = all ? seenByAll : seenBySome;
          }
#pragma unroll 1
          for (int c = lane; c < step; c += 32) {
            const int i = tile * step + c;
            // Weights of queries that do not exist or see nothing come out as 2^−∞.
            float logSum = INFINITY, slope = 0.f;
            int lo = 0, hi = 0;
            if (i < s.Tq) {
              visible(s, b, i, lo, hi);
              const i64 at = (i64(b) * s.Hq + h) * s.Tq + i;
              const float l = lse[at];
              logSum = l == -INFINITY ? INFINITY : l * log2e;
              slope = delta[at];
            }
            steps[stage].logSum[c] = logSum;
            steps[stage].slope[c] = slope;
            steps[stage].lo[c] = lo;
            steps[stage].hi[c] = hi;
          }
          barrierArrive(&barriers.full[stage]);
          n++;
        }
      }
      const int stage = n % depth;
      barrierWait(&barriers.empty[stage], ((n / depth) & 1) ^ 1);
      if (lane == 0) {
        steps[stage].seen = seenNoMore;
        barrierArrive(&barriers.full[stage]);
      }
      barrierArrive(&barriers.full[stage]);
    }
  } else {
    registersUp<240>();
    const int part = group - 1, key0 = first + part * 64 + warp * 16 + lane / 4, column = (lane & 3) * 2;
    u16* k = ks + part * 64 * 64;
    u16* v = vs + part * 64 * 64;
    float gradK[D / 2], gradV[D / 2], sc[step / 2], dp[step / 2];
    u32 p[step / 16][4], ds[step / 16][4];
#pragma unroll
    for (int i = 0; i < D / 2; i++) gradK[i] = gradV[i] = 0.f;
    const float scale = s.scale * log2e;

    // Weights of the keys (rows) to the queries (columns) of a step.
    auto weights = [&](const Step& of) {
#pragma unroll
      for (int c = 0; c < step / 8; c++) {
        const float2 l = *reinterpret_cast<const float2*>(of.logSum + c * 8 + column);
#pragma unroll
        for (int e = 0; e < 4; e++) sc[4 * c + e] = exp2Fast(fmaf(sc[4 * c + e], scale, -(e & 1 ? l.y : l.x)));
      }
      if (of.seen == seenByAll) return;
#pragma unroll
      for (int c = 0; c < step / 8; c++) {
        const int2 lo = *reinterpret_cast<const int2*>(of.lo + c * 8 + column), hi = *reinterpret_cast<const int2*>(of.hi + c * 8 + column);
#pragma unroll
        for (int e = 0; e < 4; e++) {
          const int j = key0 + 8 * (e >> 1);
          if (j < (e & 1 ? lo.y : lo.x) || j >= (e & 1 ? hi.y : hi.x)) sc[4 * c + e] = 0.f;
        }
      }
    };
    auto slopes = [&](const Step& of) {
#pragma unroll
      for (int c = 0; c < step / 8; c++) {
        const float2 slope = *reinterpret_cast<const float2*>(of.slope + c * 8 + column);
#pragma unroll
        for (int e = 0; e < 4; e++) sc[4 * c + e] *= dp[4 * c + e] - (e & 1 ? slope.y : slope.x);
      }
    };
    auto fetched = [&](int n) { barrierWait(&barriers.full[n % depth], (n / depth) & 1); return steps[n % depth].seen != seenNoMore; };

    barrierWait(&barriers.kv, 0);
    if (fetched(0)) {
      rowProducts<T, D, keys, step>(sc, k, qs);
      rowProducts<T, D, keys, step>(dp, v, gs);
      wgmmaWait<1>();
      wgmmaPin(sc);
      weights(steps[0]);
      packLeft<T>(p, sc);
      weightedSum<T, D, step>(gradV, p, gs);
      wgmmaWait<1>();
      wgmmaPin(dp);
      slopes(steps[0]);
      packLeft<T>(ds, sc);
      wgmmaWait<0>();
      wgmmaPin(gradV);
      int n = 1;
      for (; fetched(n); n++) {
        const int stage = n % depth, before = (n - 1) % depth;
        u16* q = qs + stage * step * D;
        u16* g = gs + stage * step * D;
        rowProducts<T, D, keys, step>(sc, k, q);
        weightedSum<T, D, step>(gradK, ds, qs + before * step * D);
        rowProducts<T, D, keys, step>(dp, v, g);
        wgmmaWait<2>();
        wgmmaPin(sc);
        weights(steps[stage]);
        wgmmaWait<1>();
        wgmmaPin(gradK);
        barrierArrive(&barriers.empty[before]);
        packLeft<T>(p, sc);
        weightedSum<T, D, step>(gradV, p, g);
        wgmmaWait<1>();
        wgmmaPin(dp);
        slopes(steps[stage]);
        packLeft<T>(ds, sc);
        wgmmaWait<0>();
        wgmmaPin(gradV);
      }
      weightedSum<T, D, step>(gradK, ds, qs + (n - 1) % depth * step * D);
      wgmmaWait<0>();
      wgmmaPin(gradK);
    }
    const float factorK[2] = {s.scale, s.scale}, factorV[2] = {1.f, 1.f};
    storeRows<T, D, keys>(gradK, factorK, k, 1 + part, dk + b * sdk.b + hkv * sdk.h, sdk.t, first + part * 64, s.Tk);
    storeRows<T, D, keys>(gradV, factorV, v, 1 + part, dv + b * sdv.b + hkv * sdv.h, sdv.t, first + part * 64, s.Tk);
  }
}
#define DQ(T, D) dqHopper<T, D>(mdy, mq, mk, mv, lse, delta, dq, s, sdq, together)
#define DKDV(T, D) dkdvHopper<T, D>(mdy, mq, mk, mv, lse, delta, dk, dv, s, sdk, sdv, together)
#else
#include "../common/cuda/attention.cuh"
#define DQ(T, D) __trap()
#define DKDV(T, D) __trap()
#endif

#define BACKWARD_HOPPER(suffix, T, D)                                                                                                                                  \
  KERNEL __launch_bounds__(384, 1) attention_dq_hopper_##suffix(const __grid_constant__ TensorMap mdy, const __grid_constant__ TensorMap mq,                            \
                                                                const __grid_constant__ TensorMap mk, const __grid_constant__ TensorMap mv, const float* lse,           \
                                                                const float* delta, u16* dq, AttentionShape s, Heads sdq, i32 together) {                                                \
    afterPrevious();                                                                                                                                                                     \
    DQ(T, D);                                                                                                                                                          \
  }                                                                                                                                                                    \
  KERNEL __launch_bounds__(384, 1) attention_dkdv_hopper_##suffix(const __grid_constant__ TensorMap mdy, const __grid_constant__ TensorMap mq,                          \
                                                                  const __grid_constant__ TensorMap mk, const __grid_constant__ TensorMap mv, const float* lse,         \
                                                                  const float* delta, u16* dk, u16* dv, AttentionShape s, Heads sdk, Heads sdv, i32 together) {                          \
    afterPrevious();                                                                                                                                                                     \
    DKDV(T, D);                                                                                                                                                        \
  }
BACKWARD_HOPPER(bf16_64, BF16, 64)
BACKWARD_HOPPER(bf16_128, BF16, 128)
BACKWARD_HOPPER(f16_64, F16, 64)
BACKWARD_HOPPER(f16_128, F16, 128)
