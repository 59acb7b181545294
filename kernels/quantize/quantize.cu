// Blockwise quantization in bitsandbytes' exact order of roundings. quantize4_blocks: whole blocks of 32 … 256 elements, eight a thread,
// maximum by shuffles, code by a four-step search whose bounds lie in the lanes. quantize_any: a block of threads a block of elements.
#include "../common/cuda/rows.cuh"
#include "codebooks.inc"

/** How many of the 15 ascending bounds, spread over the lanes, are smaller than x. Every lane of the warp calls it. */
DEVICE u32 search4(float x, float bound, float b7, float b3, float b11) {
  u32 c = x > b7 ? 8 : 0;
  c += x > (c ? b11 : b3) ? 4 : 0;
  c += x > __shfl_sync(0xffffffffu, bound, int(c + 1)) ? 2 : 0;
  c += x > __shfl_sync(0xffffffffu, bound, int(c)) ? 1 : 0;
  return c;
}

KERNEL __launch_bounds__(256) quantize4_blocks(const void* x, const float* offset, u8* codes, float* absmax, i64 n, i32 shift, i32 dtype, i32 fp4) {
  afterPrevious();
  const int lane = threadIdx.x & 31;
  const float* bounds = fp4 ? fp4Bounds : nf4Bounds;
  const float bound = bounds[lane < 15 ? lane : 14], b7 = bounds[7], b3 = bounds[3], b11 = bounds[11];
  const u32 named = fp4 ? u32(fp4Codes[lane & 15]) : u32(lane & 15);
  const float minus = offset ? offset[0] : 0.f;
  const int lanes = 1 << (shift - 3);
  const i64 vectors = n >> 3;
  // Whole warps take part in the shuffles, also past the end.
  for (i64 base = i64(blockIdx.x) * blockDim.x + (threadIdx.x & ~31u); base < vectors; base += globalThreads()) {
    const i64 i = base + lane;
    float v[8] = {};
    if (i < vectors) load8(x, dtype, i * 8, v);
    float top = 0.f;
#pragma unroll
    for (int j = 0; j < 8; j++) {
      if (offset) v[j] = __fsub_rn(v[j], minus);
      top = fmaxf(top, fabsf(v[j]));
    }
    for (int o = 1; o < lanes; o <<= 1) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, o));
    const float inverse = __frcp_rn(fmaxf(top, 1e-38f));
    u32 word = 0;
#pragma unroll
    for (int j = 0; j < 8; j++) {
      u32 c = search4(__fmul_rn(v[j], inverse), bound, b7, b3, b11);
      if (fp4) c = __shfl_sync(0xffffffffu, named, int(c));
      word |= c << (8 * (j >> 1) + 4 * (1 - (j & 1)));
    }
    if (i < vectors) {
      reinterpret_cast<u32*>(codes)[i] = word;
      if ((lane & (lanes - 1)) == 0) absmax[(i << 3) >> shift] = top;
    }
  }
}

/** Blocks firstBlock … of `size` elements, the last one perhaps short. bits 4 or 8. */
KERNEL quantize_any(const void* x, const float* codebook, const float* offset, u8* codes, float* absmax, i64 n, i64 size, i64 firstBlock, i32 dtype, i32 bits, i32 fp4) {
  afterPrevious();
  __shared__ float scratch[33];
  __shared__ float midpoints[256];
  const float minus = offset ? offset[0] : 0.f;
  if (bits == 8)
    for (int i = threadIdx.x; i < 255; i += blockDim.x) midpoints[i] = __fmul_rn(0.5f, __fadd_rn(codebook[i], codebook[i + 1]));
  const i64 b = firstBlock + blockIdx.x, begin = b * size, count = begin + size <= n ? size : n - begin;
  const bool whole = count == size;
  auto value = [&](i64 i) { return __fsub_rn(loadFloat(x, dtype, begin + i), minus); };
  float top = 0.f;
  for (i64 i = threadIdx.x; i < count; i += blockDim.x) top = fmaxf(top, fabsf(value(i)));
  top = blockMax(top, scratch);
  const float divisor = fmaxf(top, 1e-38f), inverse = bits == 8 ? (top > 0.f ? __frcp_rn(top) : 0.f) : __frcp_rn(divisor);
  if (threadIdx.x == 0) absmax[b] = bits == 4 && !whole ? divisor : top;
  if (bits == 8) {
    for (i64 i = threadIdx.x; i < count; i += blockDim.x) {
      const float s = fminf(fmaxf(__fmul_rn(value(i), inverse), -1.f), 1.f);
      const i32 bin = i32(__fadd_rn(__fmul_rn(__fmul_rn(__fadd_rn(s, 1.f), 0.5f), 65535.f), 0.5f));
      const float centre = __fadd_rn(-1.f, __fdiv_rn(float(2 * bin), 65535.f));
      int lo = 0, hi = 255;
      while (lo < hi) {
        const int mid = (lo + hi) >> 1;
        if (midpoints[mid] < centre) lo = mid + 1;
        else hi = mid;
      }
      codes[begin + i] = top > 0.f ? u8(lo) : 0;
    }
    return;
  }
  const float* bounds = fp4 ? fp4Bounds : nf4Bounds;
  auto code = [&](float s) {
    int c = 0;
    for (int k = 0; k < 15; k++) c += s > bounds[k];
    return u32(fp4 ? fp4Codes[c] : c);
  };
  for (i64 i = threadIdx.x * 2; i < count; i += blockDim.x * 2) {
    u32 pair[2];
    for (int j = 0; j < 2; j++) {
      const float v = i + j < count ? value(i + j) : 0.f;
      pair[j] = code(whole ? __fmul_rn(v, inverse) : __fdiv_rn(v, divisor));
    }
    codes[(begin + i) >> 1] = u8(pair[0] << 4 | pair[1]);
  }
}
