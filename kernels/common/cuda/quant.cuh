// Scales and codes of blockwise quantization. Products and sums are rounded one by one (no fused multiply-add), as bitsandbytes rounds them.
#pragma once
#include "common.cuh"

/** Division by a run-time constant: floor(n / d) for n < 2³¹ from a multiplication (made by the host: src/fastdiv.ts). */
struct FastDivide { u32 divisor, magic, shift, one; };
DEVICE u32 divide(u32 n, const FastDivide& f) {
  if (f.one) return n;
  const u32 t = __umulhi(n, f.magic);
  return (t + ((n - t) >> 1)) >> f.shift;
}

/** Where a quantized tensor lies. `nestedAbsmax` is null unless double-quantized. */
struct Quantized {
  const u8* codes;
  const void* absmax;
  const float* codebook;
  const float* nestedAbsmax;
  const float* nestedCodebook;
  const float* offset;
  i32 shift;
  i32 pad;
};

/** The scale of block b; `map` is the nested codebook (in shared memory where that pays). */
DEVICE float scaleOf(const Quantized& w, const float* map, float offset, i64 b) {
  if (!w.nestedAbsmax) return static_cast<const float*>(w.absmax)[b];
  const u8 q = static_cast<const u8*>(w.absmax)[b];
  return __fadd_rn(__fmul_rn(map[q], w.nestedAbsmax[b >> 8]), offset);
}
