// y = codebook[code] · scale, to rows of pitch `ld` (the scratch of a joint product is wider than the weight).
// dequantize4_*: a lane turns four bytes into eight elements and stores 16 bytes, eight times with the loads first; the 16 entries of the
// codebook lie in the lanes of the warp and are looked up by shuffles, and so are the scales (dequantize4_fine: scales of blocks under 64, from the
// cache). dequantize_any: one element a thread, any width and length.
// kernels: dequantize4_f32 dequantize4_f16 dequantize4_bf16
#include "../common/cuda/quant.cuh"

namespace {
constexpr int warps = 8, unroll = 8;
/** Elements of a warp, of which a block has `warps`. */
constexpr int share = 32 * 8 * unroll;
}  // namespace

/** `wide`: blocks are of 64 elements or more. */
template <bool packed, bool wide> DEVICE void dequantize4(const Quantized& w, void* y, int dtype, i64 n, i64 ld, const FastDivide& rowVectors) {
  __shared__ float map[256];
  const bool nested = w.nestedAbsmax != nullptr;
  const int lane = threadIdx.x & 31;
  const u32 vectors = u32(n >> 3), at = (blockIdx.x * warps + (threadIdx.x >> 5)) * (share / 8);
  // Every load is on its way before the first is used.
  u32 code[unroll], place = 0;
  float outer = 0.f;
#pragma unroll
  for (int u = 0; u < unroll; u++) {
    const u32 v = at + u * 32 + lane;
    code[u] = v < vectors ? reinterpret_cast<const u32*>(w.codes)[v] : 0;
  }
  // A warp's elements are as many blocks of 64 as it has lanes.
  if (const u32 v = at + 8 * lane; wide && v < vectors) {
    const u32 block = u32((u64(v) << 3) >> w.shift);
    place = nested ? static_cast<const u8*>(w.absmax)[block] : 0;
    outer = nested ? w.nestedAbsmax[block >> 8] : static_cast<const float*>(w.absmax)[block];
  }
  const float offset = w.offset ? w.offset[0] : 0.f;
  const float table = w.codebook[lane & 15];
  if (nested) {
    map[threadIdx.x] = w.nestedCodebook[threadIdx.x];
    __syncthreads();
  }
  const float mine = nested ? __fadd_rn(__fmul_rn(map[place], outer), offset) : outer;
#pragma unroll
  for (int u = 0; u < unroll; u++) {
    const u32 v = at + u * 32 + lane;
    float scale = __shfl_sync(0xffffffffu, mine, u * 4 + (lane >> 3));
    if (!wide && v < vectors) scale = scaleOf(w, map, offset, (i64(v) << 3) >> w.shift);
    float e[8];
#pragma unroll
    for (int j = 0; j < 8; j++) e[j] = __fmul_rn(__shfl_sync(0xffffffffu, table, int(code[u] >> (8 * (j >> 1) + 4 * (1 - (j & 1))) & 15)), scale);
    if (v < vectors) {
      i64 to = i64(v) << 3;
      if (!packed) {
        const u32 row = divide(v, rowVectors);
        to = i64(row) * ld + ((v - i64(row) * rowVectors.divisor) << 3);
      }
      store8(y, dtype, to, e);
    }
  }
}

#define DEQUANTIZE4(name, T)                                                                            \
  KERNEL __launch_bounds__(256, 8) name(Quantized w, void* y, i64 n, i64 ld, FastDivide rowVectors) {   \
    afterPrevious();                                                                                    \
    if (ld) dequantize4<false, true>(w, y, T, n, ld, rowVectors);                                       \
    else dequantize4<true, true>(w, y, T, n, ld, rowVectors);                                           \
  }
DEQUANTIZE4(dequantize4_f32, F32)
DEQUANTIZE4(dequantize4_f16, F16)
DEQUANTIZE4(dequantize4_bf16, BF16)

KERNEL __launch_bounds__(256) dequantize4_fine(Quantized w, void* y, i64 n, i64 ld, FastDivide rowVectors, i32 dtype) {
  afterPrevious();
  if (ld) dequantize4<false, false>(w, y, dtype, n, ld, rowVectors);
  else dequantize4<true, false>(w, y, dtype, n, ld, rowVectors);
}

/** Elements `first` … n − 1, of 4 or 8 bits; rows of `cols` elements at pitch ld. */
KERNEL dequantize_any(Quantized w, void* y, i64 first, i64 n, i64 cols, i64 ld, i32 bits, i32 dtype) {
  afterPrevious();
  const float offset = w.offset ? w.offset[0] : 0.f;
  for (i64 i = first + globalThread(); i < n; i += globalThreads()) {
    const u8 byte = w.codes[bits == 8 ? i : i >> 1];
    const int code = bits == 8 ? byte : i & 1 ? byte & 15 : byte >> 4;
    const float v = __fmul_rn(w.codebook[code], scaleOf(w, w.nestedCodebook, offset, i >> w.shift));
    storeFloat(y, dtype, i / cols * ld + i % cols, v);
  }
}
