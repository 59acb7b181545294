// Attention forward (Dao et al. 2022): a block owns 128 queries of one head and walks the keys that any of them sees, 64 at a time,
// with a running maximum and sum for each query; scores live in registers only. attention_*: bf16 and f16 on the tensor cores (mma.sync, keys
// and values fetched ahead by cp.async). attention_plain: any float dtype and width up to 256, a warp a query.
// kernels: attention_bf16_64 attention_bf16_128 attention_f16_64 attention_f16_128
#include "../common/cuda/attention.cuh"

constexpr float log2e = 1.4426950408889634f, ln2 = 0.6931471805599453f;

template <int T, int D> DEVICE void attentionTiles(const u16* q, const u16* k, const u16* v, u16* y, float* lse, const AttentionShape& s, const Heads& sq, const Heads& sk, const Heads& sv, const Heads& sy) {
  constexpr int rows = 128, cols = 64, threads = 256, slices = D / 16;
  DYNAMIC_SHARED(u16, shared);
  __shared__ int range[4];
  u16* qs = shared;
  u16* ks = qs + rows * D;
  u16* vs = ks + 2 * cols * D;
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  // The last queries see the most keys: they start first.
  const int first = (int(gridDim.x) - 1 - int(blockIdx.x)) * rows, h = blockIdx.y, b = blockIdx.z, hkv = i64(h) * s.Hkv / s.Hq;
  const u16* qh = q + b * sq.b + h * sq.h;
  const u16* kh = k + b * sk.b + hkv * sk.h;
  const u16* vh = v + b * sv.b + hkv * sv.h;
  const TileRange r = tileRange(s, b, first, rows, range);
  const int tileLo = r.anyLo / cols, tileHi = (r.anyHi + cols - 1) / cols;

  loadTile<D, rows, threads>(qs, qh, sq.t, first, s.Tq);
  if (tileLo < tileHi) {
    loadTile<D, cols, threads>(ks, kh, sk.t, tileLo * cols, s.Tk);
    copyAsyncCommit();
    loadTile<D, cols, threads>(vs, vh, sv.t, tileLo * cols, s.Tk);
  }
  copyAsyncCommit();

  int lo[2], hi[2];
#pragma unroll
  for (int j = 0; j < 2; j++) {
    const int i = first + warp * 16 + lane / 4 + 8 * j;
    lo[j] = hi[j] = 0;
    if (i < s.Tq) visible(s, b, i, lo[j], hi[j]);
  }
  float out[D / 8][4] = {};
  float top[2] = {-INFINITY, -INFINITY}, sum[2] = {0.f, 0.f};
  const float scale = s.scale * log2e;

  for (int t = tileLo; t < tileHi; t++) {
    const int stage = (t - tileLo) & 1, col0 = t * cols;
    u16* kt = ks + stage * cols * D;
    u16* vt = vs + stage * cols * D;
    copyAsyncWait<1>();
    __syncthreads();
    float score[cols / 8][4] = {};
#pragma unroll
    for (int kk = 0; kk < slices; kk++) {
      u32 a[4];
      leftFragment<D>(a, qs, warp * 16, kk);
#pragma unroll
      for (int n = 0; n < cols / 16; n++) {
        u32 f[4];
        rightFragment<D>(f, kt, n * 16, kk);
        multiplyAdd<T>(score[2 * n], a, f[0], f[1]);
        multiplyAdd<T>(score[2 * n + 1], a, f[2], f[3]);
      }
    }
    // The next keys travel while these scores become weights.
    if (t + 1 < tileHi) loadTile<D, cols, threads>(ks + (stage ^ 1) * cols * D, kh, sk.t, col0 + cols, s.Tk);
    copyAsyncCommit();
    const bool masked = col0 < r.allLo || col0 + cols > r.allHi;
    float next[2] = {top[0], top[1]};
#pragma unroll
    for (int n = 0; n < cols / 8; n++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        float x = score[n][e] * scale;
        if (masked) {
          const int j = col0 + n * 8 + (lane & 3) * 2 + (e & 1);
          if (j < lo[e >> 1] || j >= hi[e >> 1]) x = -INFINITY;
        }
        score[n][e] = x;
        next[e >> 1] = fmaxf(next[e >> 1], x);
      }
    float base[2];
#pragma unroll
    for (int j = 0; j < 2; j++) {
      next[j] = fmaxf(next[j], __shfl_xor_sync(0xffffffffu, next[j], 1));
      next[j] = fmaxf(next[j], __shfl_xor_sync(0xffffffffu, next[j], 2));
      base[j] = next[j] == -INFINITY ? 0.f : next[j];
      const float shrink = exp2Fast(top[j] - base[j]);
      top[j] = next[j];
      sum[j] *= shrink;
#pragma unroll
      for (int d = 0; d < D / 8; d++) { out[d][2 * j] *= shrink; out[d][2 * j + 1] *= shrink; }
    }
#pragma unroll
    for (int n = 0; n < cols / 8; n++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        score[n][e] = exp2Fast(score[n][e] - base[e >> 1]);
        sum[e >> 1] += score[n][e];
      }
    copyAsyncWait<1>();
    __syncthreads();
#pragma unroll
    for (int kk = 0; kk < cols / 16; kk++) {
      u32 a[4];
      leftFromResults<T>(a, score[2 * kk], score[2 * kk + 1]);
      accumulateRows<T, D>(out, a, vt, kk);
    }
    if (t + 1 < tileHi) loadTile<D, cols, threads>(vs + (stage ^ 1) * cols * D, vh, sv.t, col0 + cols, s.Tk);
    copyAsyncCommit();
  }
  copyAsyncWait<0>();

#pragma unroll
  for (int j = 0; j < 2; j++) {
    sum[j] += __shfl_xor_sync(0xffffffffu, sum[j], 1);
    sum[j] += __shfl_xor_sync(0xffffffffu, sum[j], 2);
    const int i = first + warp * 16 + lane / 4 + 8 * j;
    if (i >= s.Tq) continue;
    const bool none = sum[j] == 0.f;
    const float inverse = none ? 0.f : 1.f / sum[j];
    if ((lane & 3) == 0) lse[(i64(b) * s.Hq + h) * s.Tq + i] = none ? -INFINITY : top[j] * ln2 + logf(sum[j]);
    u16* row = y + b * sy.b + i64(i) * sy.t + h * sy.h;
#pragma unroll
    for (int d = 0; d < D / 8; d++)
      *reinterpret_cast<u32*>(row + d * 8 + (lane & 3) * 2) = packHalf<T>(out[d][2 * j] * inverse, out[d][2 * j + 1] * inverse);
  }
}

#define ATTENTION(name, T, D)                                                                                                                                   \
  KERNEL __launch_bounds__(256) name(const u16* q, const u16* k, const u16* v, u16* y, float* lse, AttentionShape s, Heads sq, Heads sk, Heads sv, Heads sy) {                   \
    afterPrevious();                                                                                                                                                             \
    attentionTiles<T, D>(q, k, v, y, lse, s, sq, sk, sv, sy);                                                                                                  \
  }
ATTENTION(attention_bf16_64, BF16, 64)
ATTENTION(attention_bf16_128, BF16, 128)
ATTENTION(attention_f16_64, F16, 64)
ATTENTION(attention_f16_128, F16, 128)

/** grid (⌈Tq / 8⌉, Hq, B), 256 threads. Each warp: 32 keys at a time, a key a lane for scores, D/32 columns a lane for the sum. */
KERNEL __launch_bounds__(256) attention_plain(const void* q, const void* k, const void* v, void* y, float* lse, AttentionShape s, Heads sq, Heads sk, Heads sv, Heads sy, i32 dtype) {
  afterPrevious();
  __shared__ float queries[8][256];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const int i = blockIdx.x * 8 + warp, h = blockIdx.y, b = blockIdx.z, hkv = i64(h) * s.Hkv / s.Hq;
  if (i >= s.Tq) return;
  for (int d = lane; d < s.D; d += 32) queries[warp][d] = loadFloat(q, dtype, b * sq.b + i64(i) * sq.t + h * sq.h + d) * s.scale;
  __syncwarp();
  int lo, hi;
  visible(s, b, i, lo, hi);
  float out[8] = {}, top = -INFINITY, sum = 0.f;
  for (int j0 = lo; j0 < hi; j0 += 32) {
    const int j = j0 + lane;
    float score = -INFINITY;
    if (j < hi) {
      const i64 at = b * sk.b + i64(j) * sk.t + hkv * sk.h;
      score = 0.f;
      for (int d = 0; d < s.D; d++) score = fmaf(queries[warp][d], loadFloat(k, dtype, at + d), score);
    }
    const float next = fmaxf(top, warpMax(score));
    // Only NaN and −∞ scores leave the maximum at −∞; the latter weigh nothing.
    const float base = next == -INFINITY ? 0.f : next;
    const float weight = j < hi ? expf(score - base) : 0.f;
    const float shrink = expf(top - base);
    top = next;
    sum = sum * shrink + warpSum(weight);
#pragma unroll
    for (int c = 0; c < 8; c++) out[c] *= shrink;
    const int count = min(32, hi - j0);
    for (int w = 0; w < count; w++) {
      const float p = __shfl_sync(0xffffffffu, weight, w);
      const i64 at = b * sv.b + i64(j0 + w) * sv.t + hkv * sv.h;
#pragma unroll
      for (int c = 0; c < 8; c++)
        if (c * 32 + lane < s.D) out[c] = fmaf(p, loadFloat(v, dtype, at + c * 32 + lane), out[c]);
    }
  }
  const bool none = lo >= hi;
  if (lane == 0) lse[(i64(b) * s.Hq + h) * s.Tq + i] = none ? -INFINITY : top + logf(sum);
#pragma unroll
  for (int c = 0; c < 8; c++)
    if (c * 32 + lane < s.D) storeFloat(y, dtype, b * sy.b + i64(i) * sy.t + h * sy.h + c * 32 + lane, none ? 0.f : out[c] / sum);
}
