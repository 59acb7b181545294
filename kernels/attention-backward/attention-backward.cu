// Attention backward without atomics, so that two runs agree bit for bit: a pass over query tiles makes dq, a pass over key tiles makes dk
// and dv (walking the query heads of the group in order). Weights are made again from the saved log-sum-exp.
// kernels: attention_dq_bf16_64 attention_dq_bf16_128 attention_dq_f16_64 attention_dq_f16_128
// kernels: attention_dkdv_bf16_64 attention_dkdv_bf16_128 attention_dkdv_f16_64 attention_dkdv_f16_128
#include "../common/cuda/attention.cuh"

constexpr float log2e = 1.4426950408889634f;

/** delta[b,h,i] = Σ_d dy·y. A warp a row of one head. */
KERNEL attention_delta(const void* dy, const void* y, float* delta, i32 B, i32 T, i32 H, i32 D, Heads sdy, Heads sy, i32 dtype) {
  afterPrevious();
  const int lane = threadIdx.x & 31;
  for (i64 row = (globalThread()) >> 5; row < i64(B) * T * H; row += globalThreads() >> 5) {
    const i64 h = row % H, i = row / H % T, b = row / H / T;
    const i64 at = b * sdy.b + i * sdy.t + h * sdy.h, ay = b * sy.b + i * sy.t + h * sy.h;
    float sum = 0.f;
    for (int d = lane; d < D; d += 32) sum = fmaf(loadFloat(dy, dtype, at + d), loadFloat(y, dtype, ay + d), sum);
    sum = warpSum(sum);
    if (lane == 0) delta[(b * H + h) * T + i] = sum;
  }
}

/** The same for f16 and bf16 rows that 16-byte loads reach: D / 8 lanes a row, D 64 or 128. grid (⌈T·H·D / 2048⌉, B), 256 threads. */
KERNEL attention_delta_half(const void* dy, const void* y, float* delta, i32 T, i32 H, i32 D, Heads sdy, Heads sy, i32 dtype) {
  afterPrevious();
  const u32 lanes = D >> 3, piece = threadIdx.x & (lanes - 1), row = (blockIdx.x * 256 + threadIdx.x) / lanes, b = blockIdx.y;
  const u32 i = row / u32(H), h = row - i * H;
  float sum = 0.f;
  if (i < u32(T)) {
    float g[8], v[8];
    load8(dy, dtype, b * sdy.b + i * sdy.t + h * sdy.h + piece * 8, g);
    load8(y, dtype, b * sy.b + i * sy.t + h * sy.h + piece * 8, v);
#pragma unroll
    for (int d = 0; d < 8; d++) sum = fmaf(g[d], v[d], sum);
  }
  for (u32 o = lanes >> 1; o > 0; o >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, o);
  if (piece == 0 && i < u32(T)) delta[(i64(b) * H + h) * T + i] = sum;
}

/** grid (⌈Tq / 128⌉, Hq, B), 256 threads: warp w owns queries 16w … 16w+15 of the tile and walks 64 keys at a time. */
template <int T, int D> DEVICE void backwardQueries(const u16* dy, const u16* q, const u16* k, const u16* v, const float* lse, const float* delta, u16* dq, const AttentionShape& s, const Heads& sdy, const Heads& sq, const Heads& sk, const Heads& sv, const Heads& sdq) {
  constexpr int rows = 128, cols = 64, threads = 256, slices = D / 16;
  DYNAMIC_SHARED(u16, shared);
  __shared__ int range[4];
  u16* qs = shared;
  u16* gs = qs + rows * D;
  u16* ks = gs + rows * D;
  u16* vs = ks + 2 * cols * D;
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const int first = (int(gridDim.x) - 1 - int(blockIdx.x)) * rows, h = blockIdx.y, b = blockIdx.z, hkv = i64(h) * s.Hkv / s.Hq;
  const u16* kh = k + b * sk.b + hkv * sk.h;
  const u16* vh = v + b * sv.b + hkv * sv.h;
  const TileRange r = tileRange(s, b, first, rows, range);
  const int tileLo = r.anyLo / cols, tileHi = (r.anyHi + cols - 1) / cols;

  loadTile<D, rows, threads>(qs, q + b * sq.b + h * sq.h, sq.t, first, s.Tq);
  loadTile<D, rows, threads>(gs, dy + b * sdy.b + h * sdy.h, sdy.t, first, s.Tq);
  if (tileLo < tileHi) {
    loadTile<D, cols, threads>(ks, kh, sk.t, tileLo * cols, s.Tk);
    loadTile<D, cols, threads>(vs, vh, sv.t, tileLo * cols, s.Tk);
  }
  copyAsyncCommit();

  int lo[2], hi[2];
  float logSum[2], slope[2];
#pragma unroll
  for (int j = 0; j < 2; j++) {
    const int i = first + warp * 16 + lane / 4 + 8 * j;
    lo[j] = hi[j] = 0;
    logSum[j] = slope[j] = 0.f;
    if (i < s.Tq) {
      visible(s, b, i, lo[j], hi[j]);
      const i64 at = (i64(b) * s.Hq + h) * s.Tq + i;
      logSum[j] = lse[at] * log2e;
      slope[j] = delta[at];
    }
  }
  float grad[D / 8][4] = {};
  const float scale = s.scale * log2e;
  for (int t = tileLo; t < tileHi; t++) {
    const int stage = (t - tileLo) & 1, col0 = t * cols;
    u16* kt = ks + stage * cols * D;
    u16* vt = vs + stage * cols * D;
    if (t + 1 < tileHi) {
      loadTile<D, cols, threads>(ks + (stage ^ 1) * cols * D, kh, sk.t, col0 + cols, s.Tk);
      loadTile<D, cols, threads>(vs + (stage ^ 1) * cols * D, vh, sv.t, col0 + cols, s.Tk);
    }
    copyAsyncCommit();
    copyAsyncWait<1>();
    __syncthreads();
    float score[cols / 8][4] = {}, dp[cols / 8][4] = {};
#pragma unroll
    for (int kk = 0; kk < slices; kk++) {
      u32 aq[4], ag[4];
      leftFragment<D>(aq, qs, warp * 16, kk);
      leftFragment<D>(ag, gs, warp * 16, kk);
#pragma unroll
      for (int n = 0; n < cols / 16; n++) {
        u32 f[4];
        rightFragment<D>(f, kt, n * 16, kk);
        multiplyAdd<T>(score[2 * n], aq, f[0], f[1]);
        multiplyAdd<T>(score[2 * n + 1], aq, f[2], f[3]);
        rightFragment<D>(f, vt, n * 16, kk);
        multiplyAdd<T>(dp[2 * n], ag, f[0], f[1]);
        multiplyAdd<T>(dp[2 * n + 1], ag, f[2], f[3]);
      }
    }
    const bool masked = col0 < r.allLo || col0 + cols > r.allHi;
#pragma unroll
    for (int n = 0; n < cols / 8; n++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const int j = col0 + n * 8 + (lane & 3) * 2 + (e & 1);
        float p = exp2Fast(score[n][e] * scale - logSum[e >> 1]);
        if (masked && (j < lo[e >> 1] || j >= hi[e >> 1])) p = 0.f;
        score[n][e] = p * (dp[n][e] - slope[e >> 1]);
      }
#pragma unroll
    for (int kk = 0; kk < cols / 16; kk++) {
      u32 a[4];
      leftFromResults<T>(a, score[2 * kk], score[2 * kk + 1]);
      accumulateRows<T, D>(grad, a, kt, kk);
    }
    __syncthreads();
  }
  copyAsyncWait<0>();
#pragma unroll
  for (int j = 0; j < 2; j++) {
    const int i = first + warp * 16 + lane / 4 + 8 * j;
    if (i >= s.Tq) continue;
    u16* row = dq + b * sdq.b + i64(i) * sdq.t + h * sdq.h;
#pragma unroll
    for (int d = 0; d < D / 8; d++)
      *reinterpret_cast<u32*>(row + d * 8 + (lane & 3) * 2) = packHalf<T>(grad[d][2 * j] * s.scale, grad[d][2 * j + 1] * s.scale);
  }
}

/** grid (⌈Tk / 128⌉, Hkv, B), 256 threads: warp w owns keys 16w … 16w+15 of the tile and walks 64 queries at a time, head after head. */
template <int T, int D> DEVICE void backwardKeys(const u16* dy, const u16* q, const u16* k, const u16* v, const float* lse, const float* delta, u16* dk, u16* dv, const AttentionShape& s, const Heads& sdy, const Heads& sq, const Heads& sk, const Heads& sv, const Heads& sdk, const Heads& sdv) {
  constexpr int keys = 128, cols = 64, threads = 256, slices = D / 16;
  DYNAMIC_SHARED(u16, shared);
  u16* ks = shared;
  u16* vs = ks + keys * D;
  u16* qs = vs + keys * D;
  u16* gs = qs + cols * D;
  __shared__ float logSums[cols], slopes[cols];
  __shared__ int los[cols], his[cols];
  __shared__ int touched[2];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const int first = blockIdx.x * keys, hkv = blockIdx.y, b = blockIdx.z, group = s.Hq / s.Hkv;
  loadTile<D, keys, threads>(ks, k + b * sk.b + hkv * sk.h, sk.t, first, s.Tk);
  loadTile<D, keys, threads>(vs, v + b * sv.b + hkv * sv.h, sv.t, first, s.Tk);
  copyAsyncCommit();

  // Causal: queries before `from` see none of these keys.
  const int from = s.causal ? max(0, first - (s.Tk - s.Tq)) / cols : 0, to = (s.Tq + cols - 1) / cols;
  float gradK[D / 8][4] = {}, gradV[D / 8][4] = {};
  const float scale = s.scale * log2e;
  for (int step = 0; step < group * (to - from); step++) {
    const int h = hkv * group + step / (to - from), row0 = (from + step % (to - from)) * cols;
    __syncthreads();
    if (threadIdx.x < 2) touched[threadIdx.x] = threadIdx.x;
    __syncthreads();
    if (threadIdx.x < cols) {
      const int i = row0 + threadIdx.x;
      int lo = 0, hi = 0;
      float ls = 0.f, sl = 0.f;
      if (i < s.Tq) {
        visible(s, b, i, lo, hi);
        const i64 at = (i64(b) * s.Hq + h) * s.Tq + i;
        ls = lse[at] * log2e;
        sl = delta[at];
      }
      los[threadIdx.x] = lo;
      his[threadIdx.x] = hi;
      logSums[threadIdx.x] = ls;
      slopes[threadIdx.x] = sl;
      // Does any query see any of these keys; does every query see all of them?
      if (lo < hi && lo < first + keys && hi > first) touched[0] = 1;
      if (lo > first || hi < first + keys) touched[1] = 0;
    }
    __syncthreads();
    if (!touched[0]) continue;
    loadTile<D, cols, threads>(qs, q + b * sq.b + h * sq.h, sq.t, row0, s.Tq);
    loadTile<D, cols, threads>(gs, dy + b * sdy.b + h * sdy.h, sdy.t, row0, s.Tq);
    copyAsyncCommit();
    copyAsyncWait<0>();
    __syncthreads();
    float score[cols / 8][4] = {}, dp[cols / 8][4] = {};
#pragma unroll
    for (int kk = 0; kk < slices; kk++) {
      u32 ak[4], av[4];
      leftFragment<D>(ak, ks, warp * 16, kk);
      leftFragment<D>(av, vs, warp * 16, kk);
#pragma unroll
      for (int n = 0; n < cols / 16; n++) {
        u32 f[4];
        rightFragment<D>(f, qs, n * 16, kk);
        multiplyAdd<T>(score[2 * n], ak, f[0], f[1]);
        multiplyAdd<T>(score[2 * n + 1], ak, f[2], f[3]);
        rightFragment<D>(f, gs, n * 16, kk);
        multiplyAdd<T>(dp[2 * n], av, f[0], f[1]);
        multiplyAdd<T>(dp[2 * n + 1], av, f[2], f[3]);
      }
    }
    const bool masked = !touched[1];
#pragma unroll
    for (int n = 0; n < cols / 8; n++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const int c = n * 8 + (lane & 3) * 2 + (e & 1), j = first + warp * 16 + lane / 4 + 8 * (e >> 1);
        float p = exp2Fast(score[n][e] * scale - logSums[c]);
        if (masked && (j < los[c] || j >= his[c])) p = 0.f;
        score[n][e] = p;
        dp[n][e] = p * (dp[n][e] - slopes[c]);
      }
#pragma unroll
    for (int kk = 0; kk < cols / 16; kk++) {
      u32 a[4];
      leftFromResults<T>(a, score[2 * kk], score[2 * kk + 1]);
      accumulateRows<T, D>(gradV, a, gs, kk);
      leftFromResults<T>(a, dp[2 * kk], dp[2 * kk + 1]);
      accumulateRows<T, D>(gradK, a, qs, kk);
    }
  }
  copyAsyncWait<0>();
#pragma unroll
  for (int j = 0; j < 2; j++) {
    const int i = first + warp * 16 + lane / 4 + 8 * j;
    if (i >= s.Tk) continue;
    u16* rowK = dk + b * sdk.b + i64(i) * sdk.t + hkv * sdk.h;
    u16* rowV = dv + b * sdv.b + i64(i) * sdv.t + hkv * sdv.h;
#pragma unroll
    for (int d = 0; d < D / 8; d++) {
      *reinterpret_cast<u32*>(rowK + d * 8 + (lane & 3) * 2) = packHalf<T>(gradK[d][2 * j] * s.scale, gradK[d][2 * j + 1] * s.scale);
      *reinterpret_cast<u32*>(rowV + d * 8 + (lane & 3) * 2) = packHalf<T>(gradV[d][2 * j], gradV[d][2 * j + 1]);
    }
  }
}

#define BACKWARD(suffix, T, D)                                                                                                                                             \
  KERNEL __launch_bounds__(256) attention_dq_##suffix(const u16* dy, const u16* q, const u16* k, const u16* v, const float* lse, const float* delta, u16* dq,              \
                                                      AttentionShape s, Heads sdy, Heads sq, Heads sk, Heads sv, Heads sdq) {                                                               \
    afterPrevious();                                                                                                                                                                        \
    backwardQueries<T, D>(dy, q, k, v, lse, delta, dq, s, sdy, sq, sk, sv, sdq);                                                                                           \
  }                                                                                                                                                                        \
  KERNEL __launch_bounds__(256) attention_dkdv_##suffix(const u16* dy, const u16* q, const u16* k, const u16* v, const float* lse, const float* delta, u16* dk, u16* dv,   \
                                                        AttentionShape s, Heads sdy, Heads sq, Heads sk, Heads sv, Heads sdk, Heads sdv) {                                                  \
    afterPrevious();                                                                                                                                                                        \
    backwardKeys<T, D>(dy, q, k, v, lse, delta, dk, dv, s, sdy, sq, sk, sv, sdk, sdv);                                                                                     \
  }
BACKWARD(bf16_64, BF16, 64)
BACKWARD(bf16_128, BF16, 128)
BACKWARD(f16_64, F16, 64)
BACKWARD(f16_128, F16, 128)

/** Any float dtype, width up to 256: a warp a query; 32 keys at a time, a key a lane. grid (⌈Tq / 8⌉, Hq, B), 256 threads. */
KERNEL __launch_bounds__(256) attention_dq_plain(const void* dy, const void* q, const void* k, const void* v, const float* lse, const float* delta, void* dq, AttentionShape s, Heads sdy, Heads sq, Heads sk, Heads sv, Heads sdq, i32 dtype) {
  afterPrevious();
  __shared__ float queries[8][256];
  __shared__ float grads[8][256];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const int i = blockIdx.x * 8 + warp, h = blockIdx.y, b = blockIdx.z, hkv = i64(h) * s.Hkv / s.Hq;
  if (i >= s.Tq) return;
  for (int d = lane; d < s.D; d += 32) {
    queries[warp][d] = loadFloat(q, dtype, b * sq.b + i64(i) * sq.t + h * sq.h + d) * s.scale;
    grads[warp][d] = loadFloat(dy, dtype, b * sdy.b + i64(i) * sdy.t + h * sdy.h + d);
  }
  __syncwarp();
  int lo, hi;
  visible(s, b, i, lo, hi);
  const i64 at = (i64(b) * s.Hq + h) * s.Tq + i;
  const float logSum = lse[at], slope = delta[at];
  float out[8] = {};
  for (int j0 = lo; j0 < hi; j0 += 32) {
    const int j = j0 + lane;
    float ds = 0.f;
    if (j < hi) {
      const i64 ak = b * sk.b + i64(j) * sk.t + hkv * sk.h, av = b * sv.b + i64(j) * sv.t + hkv * sv.h;
      float score = 0.f, dp = 0.f;
      for (int d = 0; d < s.D; d++) {
        score = fmaf(queries[warp][d], loadFloat(k, dtype, ak + d), score);
        dp = fmaf(grads[warp][d], loadFloat(v, dtype, av + d), dp);
      }
      ds = expf(score - logSum) * (dp - slope);
    }
    const int count = min(32, hi - j0);
    for (int w = 0; w < count; w++) {
      const float p = __shfl_sync(0xffffffffu, ds, w);
      const i64 ak = b * sk.b + i64(j0 + w) * sk.t + hkv * sk.h;
#pragma unroll
      for (int c = 0; c < 8; c++)
        if (c * 32 + lane < s.D) out[c] = fmaf(p, loadFloat(k, dtype, ak + c * 32 + lane), out[c]);
    }
  }
#pragma unroll
  for (int c = 0; c < 8; c++)
    if (c * 32 + lane < s.D) storeFloat(dq, dtype, b * sdq.b + i64(i) * sdq.t + h * sdq.h + c * 32 + lane, out[c] * s.scale);
}

/** A warp a key; 32 queries at a time, a query a lane. grid (⌈Tk / 8⌉, Hkv, B), 256 threads. */
KERNEL __launch_bounds__(256) attention_dkdv_plain(const void* dy, const void* q, const void* k, const void* v, const float* lse, const float* delta, void* dk, void* dv, AttentionShape s, Heads sdy, Heads sq, Heads sk, Heads sv, Heads sdk, Heads sdv, i32 dtype) {
  afterPrevious();
  __shared__ float keys[8][256];
  __shared__ float values[8][256];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const int j = blockIdx.x * 8 + warp, hkv = blockIdx.y, b = blockIdx.z, group = s.Hq / s.Hkv;
  if (j >= s.Tk) return;
  for (int d = lane; d < s.D; d += 32) {
    keys[warp][d] = loadFloat(k, dtype, b * sk.b + i64(j) * sk.t + hkv * sk.h + d) * s.scale;
    values[warp][d] = loadFloat(v, dtype, b * sv.b + i64(j) * sv.t + hkv * sv.h + d);
  }
  __syncwarp();
  float outK[8] = {}, outV[8] = {};
  for (int h = hkv * group; h < (hkv + 1) * group; h++)
    for (int i0 = 0; i0 < s.Tq; i0 += 32) {
      const int i = i0 + lane;
      float p = 0.f, ds = 0.f;
      if (i < s.Tq) {
        int lo, hi;
        visible(s, b, i, lo, hi);
        if (j >= lo && j < hi) {
          const i64 aq = b * sq.b + i64(i) * sq.t + h * sq.h, ag = b * sdy.b + i64(i) * sdy.t + h * sdy.h;
          float score = 0.f, dp = 0.f;
          for (int d = 0; d < s.D; d++) {
            score = fmaf(keys[warp][d], loadFloat(q, dtype, aq + d), score);
            dp = fmaf(values[warp][d], loadFloat(dy, dtype, ag + d), dp);
          }
          const i64 at = (i64(b) * s.Hq + h) * s.Tq + i;
          p = expf(score - lse[at]);
          ds = p * (dp - delta[at]);
        }
      }
      const int count = min(32, s.Tq - i0);
      if (!__any_sync(0xffffffffu, p != 0.f)) continue;
      for (int w = 0; w < count; w++) {
        const float pw = __shfl_sync(0xffffffffu, p, w), dw = __shfl_sync(0xffffffffu, ds, w);
        const i64 aq = b * sq.b + i64(i0 + w) * sq.t + h * sq.h, ag = b * sdy.b + i64(i0 + w) * sdy.t + h * sdy.h;
#pragma unroll
        for (int c = 0; c < 8; c++)
          if (c * 32 + lane < s.D) {
            outV[c] = fmaf(pw, loadFloat(dy, dtype, ag + c * 32 + lane), outV[c]);
            outK[c] = fmaf(dw, loadFloat(q, dtype, aq + c * 32 + lane), outK[c]);
          }
      }
    }
#pragma unroll
  for (int c = 0; c < 8; c++)
    if (c * 32 + lane < s.D) {
      storeFloat(dk, dtype, b * sdk.b + i64(j) * sdk.t + hkv * sdk.h + c * 32 + lane, outK[c] * s.scale);
      storeFloat(dv, dtype, b * sdv.b + i64(j) * sdv.t + hkv * sdv.h + c * 32 + lane, outV[c]);
    }
}
