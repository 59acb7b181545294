// One AdamW step in place. hyper: lr, weightDecay, 1 − β₁ᵗ, √(1 − β₂ᵗ). Every operand contiguous.
#include "../common/cuda/rows.cuh"

DEVICE void adamwOne(float& p, float g, float& m, float& v, float decay, float step, float root, float beta1Rest, float beta2, float beta2Rest, float eps) {
  p *= decay;
  m += (g - m) * beta1Rest;
  v = beta2 * v + beta2Rest * g * g;
  p -= step * m / (sqrtf(v) / root + eps);
}

KERNEL adamw_dense(void* p, const void* g, float* m, float* v, const float* hyper, const float* gradScale, i64 n, i32 tp, i32 tg, float beta1Rest, float beta2, float beta2Rest, float eps, i32 wide) {
  afterPrevious();
  const float lr = hyper[0], decay = 1.f - lr * hyper[1], step = lr / hyper[2], root = hyper[3];
  const float scale = gradScale ? gradScale[0] : 1.f;
  for (i64 i = globalThread() * 8; i < n; i += globalThreads() * 8) {
    const bool whole = wide && i + 8 <= n;
    float pp[8], gg[8], mm[8], vv[8];
    loadChunk(p, tp, 0, i, n, whole, 0.f, pp);
    loadChunk(g, tg, 0, i, n, whole, 0.f, gg);
    loadChunk(m, F32, 0, i, n, whole, 0.f, mm);
    loadChunk(v, F32, 0, i, n, whole, 0.f, vv);
#pragma unroll
    for (int j = 0; j < 8; j++) adamwOne(pp[j], gg[j] * scale, mm[j], vv[j], decay, step, root, beta1Rest, beta2, beta2Rest, eps);
    storeChunk(p, tp, 0, i, n, whole, pp);
    storeChunk(m, F32, 0, i, n, whole, mm);
    storeChunk(v, F32, 0, i, n, whole, vv);
  }
}
