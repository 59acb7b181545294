// y = codebook[code] · scale, to rows of pitch `ld` (the scratch of a joint product is wider than the weight).
// dequantize4_*: a thread turns four bytes into eight elements and stores 16 bytes, four times with the loads first; the 16 entries of the
// codebook lie in the lanes of the warp and are looked up by shuffles. dequantize_any: one element a thread, any width and length.
#include "../common/cuda/quant.cuh"

template <int T> DEVICE void dequantize4(const Quantized& w, void* y, i64 n, i64 ld, const FastDivide& rowVectors) {
  constexpr int unroll = 4;
  __shared__ float map[256];
  const bool nested = w.nestedAbsmax != nullptr;
  const i64 vectors = n >> 3;
  const i64 first = i64(blockIdx.x) * (256 * unroll) + threadIdx.x;
  u32 code[unroll];
  float scale[unroll], outer[unroll];
  int place[unroll];
  // Every load is on its way before the first is used.
#pragma unroll
  for (int u = 0; u < unroll; u++) {
    const i64 v = first + u * 256, b = (v << 3) >> w.shift;
    code[u] = v < vectors ? reinterpret_cast<const u32*>(w.codes)[v] : 0;
    place[u] = nested && v < vectors ? static_cast<const u8*>(w.absmax)[b] : 0;
    outer[u] = v >= vectors ? 0.f : nested ? w.nestedAbsmax[b >> 8] : static_cast<const float*>(w.absmax)[b];
  }
  const float offset = w.offset ? w.offset[0] : 0.f;
  const float table = w.codebook[threadIdx.x & 15];
  if (nested) {
    for (int i = threadIdx.x; i < 256; i += blockDim.x) map[i] = w.nestedCodebook[i];
    __syncthreads();
  }
#pragma unroll
  for (int u = 0; u < unroll; u++) scale[u] = nested ? __fadd_rn(__fmul_rn(map[place[u]], outer[u]), offset) : outer[u];
#pragma unroll
  for (int u = 0; u < unroll; u++) {
    const i64 v = first + u * 256;
    float e[8];
#pragma unroll
    for (int j = 0; j < 8; j++) e[j] = __fmul_rn(__shfl_sync(0xffffffffu, table, int(code[u] >> (8 * (j >> 1) + 4 * (1 - (j & 1))) & 15)), scale[u]);
    if (v < vectors) {
      i64 at = v << 3;
      if (ld) {
        const u32 row = divide(u32(v), rowVectors);
        at = i64(row) * ld + ((v - i64(row) * rowVectors.divisor) << 3);
      }
      store8(y, T, at, e);
    }
  }
}

KERNEL __launch_bounds__(256) dequantize4_f32(Quantized w, void* y, i64 n, i64 ld, FastDivide rowVectors) { dequantize4<F32>(w, y, n, ld, rowVectors); }
KERNEL __launch_bounds__(256) dequantize4_f16(Quantized w, void* y, i64 n, i64 ld, FastDivide rowVectors) { dequantize4<F16>(w, y, n, ld, rowVectors); }
KERNEL __launch_bounds__(256) dequantize4_bf16(Quantized w, void* y, i64 n, i64 ld, FastDivide rowVectors) { dequantize4<BF16>(w, y, n, ld, rowVectors); }

/** Elements `first` … n − 1, of 4 or 8 bits; rows of `cols` elements at pitch ld. */
KERNEL dequantize_any(Quantized w, void* y, i64 first, i64 n, i64 cols, i64 ld, i32 bits, i32 dtype) {
  const float offset = w.offset ? w.offset[0] : 0.f;
  for (i64 i = first + globalThread(); i < n; i += globalThreads()) {
    const u8 byte = w.codes[bits == 8 ? i : i >> 1];
    const int code = bits == 8 ? byte : i & 1 ? byte & 15 : byte >> 4;
    const float v = __fmul_rn(w.codebook[code], scaleOf(w, w.nestedCodebook, offset, i >> w.shift));
    storeFloat(y, dtype, i / cols * ld + i % cols, v);
  }
}
