// What every kernel includes: element types by run-time code, loads and stores of one or eight elements, reductions.
// Accumulation is f32; rounding to f16 and bf16 is to nearest, ties to even.
#pragma once
#ifdef LOWRANK_EMULATE
#include "emulate.h"
#else
#define DYNAMIC_SHARED(type, name)                                  \
  extern __shared__ __align__(1024) unsigned char name##_bytes_[];  \
  type* name = reinterpret_cast<type*>(name##_bytes_)
#endif

using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using i32 = int;
using i64 = long long;
using u64 = unsigned long long;

#define KERNEL extern "C" __global__ void
#define DEVICE static __device__ __forceinline__

/** Codes of dtypes, in the order of `dtypes` of kernels/common/dtype.ts. */
enum DType : int { F32 = 0, F16 = 1, BF16 = 2, I32 = 3, U32 = 4, U8 = 5 };

struct bf16 { u16 bits; };
struct f16 { u16 bits; };
struct __align__(16) Vec16 { u32 w[4]; };
struct __align__(8) Vec8 { u32 w[2]; };

/**
 * The first statement of every kernel. On Hopper and later a launch may begin while the kernel before it ends (native/commands.cc asks for
 * it): nothing may be read or written before this, which waits until all of that kernel's work is done and seen. Kernels that come
 * next may then take their places. A kernel that waits ends after what it waited for, so that order holds over any number of them.
 */
DEVICE void afterPrevious() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;\ngriddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// ---- conversions ----

DEVICE float bitsToFloat(u32 b) {
#ifdef LOWRANK_EMULATE
  float f; memcpy(&f, &b, 4); return f;
#else
  return __uint_as_float(b);
#endif
}
DEVICE u32 floatToBits(float f) {
#ifdef LOWRANK_EMULATE
  u32 b; memcpy(&b, &f, 4); return b;
#else
  return __float_as_uint(f);
#endif
}
DEVICE float bf16ToFloat(u16 b) { return bitsToFloat(u32(b) << 16); }
DEVICE float f16ToFloat(u16 b) {
#ifdef LOWRANK_EMULATE
  return emu::halfToFloat(b);
#else
  float f; asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(b)); return f;
#endif
}
DEVICE u16 floatToBf16(float f) {
#ifdef LOWRANK_EMULATE
  const u32 b = floatToBits(f);
  if (f != f) return 0x7fff;
  return u16((b + 0x7fff + ((b >> 16) & 1)) >> 16);
#else
  u16 h; asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(h) : "f"(f)); return h;
#endif
}
DEVICE u16 floatToF16(float f) {
#ifdef LOWRANK_EMULATE
  return emu::floatToHalf(f);
#else
  u16 h; asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f)); return h;
#endif
}
/** Two values in one word, the first in the low half. */
DEVICE u32 packBf16(float lo, float hi) {
#ifdef LOWRANK_EMULATE
  return u32(floatToBf16(lo)) | u32(floatToBf16(hi)) << 16;
#else
  u32 r; asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo)); return r;
#endif
}
DEVICE u32 packF16(float lo, float hi) {
#ifdef LOWRANK_EMULATE
  return u32(floatToF16(lo)) | u32(floatToF16(hi)) << 16;
#else
  u32 r; asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo)); return r;
#endif
}
template <int T> DEVICE u32 packHalf(float lo, float hi) { return T == BF16 ? packBf16(lo, hi) : packF16(lo, hi); }
template <int T> DEVICE float halfToFloat(u16 b) { return T == BF16 ? bf16ToFloat(b) : f16ToFloat(b); }

DEVICE int sizeOf(int dtype) { return dtype == U8 ? 1 : (dtype == F16 || dtype == BF16) ? 2 : 4; }

// ---- one element ----

DEVICE float loadFloat(const void* p, int dtype, i64 i) {
  switch (dtype) {
    case F32: return static_cast<const float*>(p)[i];
    case F16: return f16ToFloat(static_cast<const u16*>(p)[i]);
    case BF16: return bf16ToFloat(static_cast<const u16*>(p)[i]);
    case I32: return float(static_cast<const i32*>(p)[i]);
    case U32: return float(static_cast<const u32*>(p)[i]);
    default: return float(static_cast<const u8*>(p)[i]);
  }
}
DEVICE void storeFloat(void* p, int dtype, i64 i, float v) {
  switch (dtype) {
    case F32: static_cast<float*>(p)[i] = v; break;
    case F16: static_cast<u16*>(p)[i] = floatToF16(v); break;
    case BF16: static_cast<u16*>(p)[i] = floatToBf16(v); break;
    default: break;
  }
}
/** Integers of 32 bits or fewer, exact. */
DEVICE i64 loadInt(const void* p, int dtype, i64 i) {
  return dtype == I32 ? i64(static_cast<const i32*>(p)[i]) : dtype == U32 ? i64(static_cast<const u32*>(p)[i]) : i64(static_cast<const u8*>(p)[i]);
}
/** Keeps the low bits. */
DEVICE void storeInt(void* p, int dtype, i64 i, i64 v) {
  if (dtype == U8) static_cast<u8*>(p)[i] = u8(v);
  else static_cast<u32*>(p)[i] = u32(v);
}
/** Truncates toward zero and saturates; NaN gives 0. */
DEVICE i64 saturate(double v, int dtype) {
  const double lo = dtype == I32 ? -2147483648.0 : 0.0, hi = dtype == I32 ? 2147483647.0 : dtype == U32 ? 4294967295.0 : 255.0;
  if (v != v) return 0;
  return i64(v < lo ? lo : v > hi ? hi : v);
}

// ---- eight consecutive elements, the first at a multiple of 16 bytes (8 bytes for u8) ----

DEVICE void load8(const void* p, int dtype, i64 i, float (&v)[8]) {
  if (dtype == F32) {
    const Vec16 a = *reinterpret_cast<const Vec16*>(static_cast<const float*>(p) + i);
    const Vec16 b = *reinterpret_cast<const Vec16*>(static_cast<const float*>(p) + i + 4);
#pragma unroll
    for (int j = 0; j < 4; j++) { v[j] = bitsToFloat(a.w[j]); v[4 + j] = bitsToFloat(b.w[j]); }
  } else {
    const Vec16 a = *reinterpret_cast<const Vec16*>(static_cast<const u16*>(p) + i);
#pragma unroll
    for (int j = 0; j < 4; j++) {
      if (dtype == BF16) { v[2 * j] = bitsToFloat(a.w[j] << 16); v[2 * j + 1] = bitsToFloat(a.w[j] & 0xffff0000u); }
      else { v[2 * j] = f16ToFloat(u16(a.w[j])); v[2 * j + 1] = f16ToFloat(u16(a.w[j] >> 16)); }
    }
  }
}
DEVICE void store8(void* p, int dtype, i64 i, const float (&v)[8]) {
  if (dtype == F32) {
    Vec16 a, b;
#pragma unroll
    for (int j = 0; j < 4; j++) { a.w[j] = floatToBits(v[j]); b.w[j] = floatToBits(v[4 + j]); }
    *reinterpret_cast<Vec16*>(static_cast<float*>(p) + i) = a;
    *reinterpret_cast<Vec16*>(static_cast<float*>(p) + i + 4) = b;
  } else {
    Vec16 a;
#pragma unroll
    for (int j = 0; j < 4; j++) a.w[j] = dtype == BF16 ? packBf16(v[2 * j], v[2 * j + 1]) : packF16(v[2 * j], v[2 * j + 1]);
    *reinterpret_cast<Vec16*>(static_cast<u16*>(p) + i) = a;
  }
}

// ---- strided views: collapsed by the host to at most 6 axes, the last one innermost ----

constexpr int maxRank = 6;
struct Shape { i32 rank; i32 size[maxRank]; i64 count; };
struct Strides { i64 s[maxRank]; };

/** Axes are walked with constant indices, so that sizes and strides stay in the parameter bank. */
DEVICE i64 offsetOf(const Shape& shape, const Strides& strides, i64 i) {
  i64 offset = 0;
  if (i <= 0xffffffffll) {
    u32 rest = u32(i);
#pragma unroll
    for (int d = maxRank - 1; d > 0; d--)
      if (d < shape.rank) {
        const u32 size = u32(shape.size[d]), q = rest / size;
        offset += i64(rest - q * size) * strides.s[d];
        rest = q;
      }
    return offset + i64(rest) * strides.s[0];
  }
#pragma unroll
  for (int d = maxRank - 1; d > 0; d--)
    if (d < shape.rank) {
      const i64 q = i / shape.size[d];
      offset += (i - q * shape.size[d]) * strides.s[d];
      i = q;
    }
  return offset + i * strides.s[0];
}

DEVICE i64 globalThread() { return i64(blockIdx.x) * blockDim.x + threadIdx.x; }
DEVICE i64 globalThreads() { return i64(gridDim.x) * blockDim.x; }

// ---- reductions, in a fixed order ----

DEVICE float warpSum(float v) {
#pragma unroll
  for (int o = 16; o > 0; o >>= 1) v += __shfl_xor_sync(0xffffffffu, v, o);
  return v;
}
DEVICE float warpMax(float v) {
#pragma unroll
  for (int o = 16; o > 0; o >>= 1) v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, o));
  return v;
}
/** Sum over the block, given to every thread. `scratch` holds 33 floats. All threads call it; blockDim.x is a multiple of 32. */
DEVICE float blockSum(float v, float* scratch) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
  v = warpSum(v);
  __syncthreads();
  if (lane == 0) scratch[warp] = v;
  __syncthreads();
  if (warp == 0) {
    v = warpSum(lane < warps ? scratch[lane] : 0.f);
    if (lane == 0) scratch[32] = v;
  }
  __syncthreads();
  return scratch[32];
}
DEVICE float blockMax(float v, float* scratch) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
  v = warpMax(v);
  __syncthreads();
  if (lane == 0) scratch[warp] = v;
  __syncthreads();
  if (warp == 0) {
    v = warpMax(lane < warps ? scratch[lane] : -INFINITY);
    if (lane == 0) scratch[32] = v;
  }
  __syncthreads();
  return scratch[32];
}

// ---- Philox4x32-10 (Salmon et al., SC'11) ----

struct Philox { u32 w[4]; };
DEVICE u32 mulHigh(u32 a, u32 b) { return u32((u64(a) * b) >> 32); }
DEVICE Philox philox(u32 c0, u32 c1, u32 c2, u32 c3, u32 k0, u32 k1) {
#pragma unroll
  for (int round = 0; round < 10; round++) {
    const u32 h0 = mulHigh(0xd2511f53u, c0), l0 = 0xd2511f53u * c0;
    const u32 h1 = mulHigh(0xcd9e8d57u, c2), l1 = 0xcd9e8d57u * c2;
    const u32 n0 = h1 ^ c1 ^ k0, n2 = h0 ^ c3 ^ k1;
    c0 = n0; c1 = l1; c2 = n2; c3 = l0;
    k0 += 0x9e3779b9u; k1 += 0xbb67ae85u;
  }
  return {{c0, c1, c2, c3}};
}
/** The four words of elements 4·group … 4·group + 3; `seed` holds seedLo, seedHi, step, stream. */
DEVICE Philox philoxGroup(const u32* seed, u32 site, u32 group) { return philox(group, site, seed[2], seed[3], seed[0], seed[1]); }
DEVICE float uniformOf(u32 word) { return float(word >> 8) * 5.9604644775390625e-8f; }

// ---- asynchronous copies into shared memory, matrix fragments (sm_80 and later) ----

DEVICE u32 sharedAddress(const void* p) {
#ifdef LOWRANK_EMULATE
  return emu::sharedOffset(p);
#else
  return static_cast<u32>(__cvta_generic_to_shared(p));
#endif
}
/** Copies 16 bytes, or writes zeros where `valid` is false. */
DEVICE void copyAsync16(void* shared, const void* global, bool valid) {
#ifdef LOWRANK_EMULATE
  if (valid) memcpy(shared, global, 16);
  else memset(shared, 0, 16);
#else
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(sharedAddress(shared)), "l"(global), "r"(valid ? 16 : 0) : "memory");
#endif
}
DEVICE void copyAsyncCommit() {
#ifndef LOWRANK_EMULATE
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
template <int N> DEVICE void copyAsyncWait() {
#ifndef LOWRANK_EMULATE
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#endif
}

/** Four 8×8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8. */
DEVICE void loadMatrix4(u32 (&r)[4], const void* row) {
#ifdef LOWRANK_EMULATE
  emu::loadMatrix(r, row, false);
#else
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(sharedAddress(row)) : "memory");
#endif
}
DEVICE void loadMatrix4Transposed(u32 (&r)[4], const void* row) {
#ifdef LOWRANK_EMULATE
  emu::loadMatrix(r, row, true);
#else
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(sharedAddress(row)) : "memory");
#endif
}
/** d += a · b with a 16×16, b 16×8 (given as 8 columns), d 16×8 f32. */
template <int T> DEVICE void multiplyAdd(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
#ifdef LOWRANK_EMULATE
  emu::multiplyAdd(d, a, b0, b1, T == BF16);
#else
  if (T == BF16)
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  else
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}
/** 2^x; −∞ gives 0. */
DEVICE float exp2Fast(float x) {
#ifdef LOWRANK_EMULATE
  return exp2f(x);
#else
  float y; asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x)); return y;
#endif
}
