// The joint product of a base and its low-rank pairs: [x, h] · [W, s·B]ᵀ. These kernels put h beside x and s·B beside W.
#include "../common/cuda/rows.cuh"

/** out [M, ld] = [x (K columns), h (R), zeros (rest − R)], rest ≥ R columns behind x. wide: 8 elements a thread. */
KERNEL lora_widen(const void* x, const void* h, void* out, i64 M, i64 K, i64 R, i64 rest, i64 xPitch, i64 hPitch, i64 ld, i32 dtype, i32 wide) {
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

/** out[n, j] for j < rest: scale · b[n, j − first] where that column belongs to b [N, r], else 0. */
KERNEL lora_columns(const void* b, void* out, i64 N, i64 r, i64 first, i64 rest, i64 bRow, i64 bCol, i64 ld, float scale, i32 from, i32 to) {
  for (i64 g = globalThread(); g < N * rest; g += globalThreads()) {
    const i64 n = g / rest, j = g - n * rest, c = j - first;
    storeFloat(out, to, n * ld + j, c >= 0 && c < r ? scale * loadFloat(b, from, n * bRow + c * bCol) : 0.f);
  }
}
