// Hopper's matrix instructions (wgmma), bulk tensor copies and the barriers they complete on. sm_90a only: includers guard their bodies
// with HOPPER. Operands in shared memory lie in panels of 64 elements (128 bytes) a row, swizzled as the copy engine writes them
// (SWIZZLE_128B): the descriptor gives the panel's address, the distance of groups of eight rows (1024 bytes), and, for an operand whose
// summed axis is the row, the distance of panels.
#pragma once
#include "common.cuh"
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define HOPPER 1
#else
#define HOPPER 0
#endif

struct __align__(64) TensorMap { u64 opaque[16]; };

#if HOPPER
// Every accumulator is named, since inline assembly takes no arrays.
#define WGMMA_SS_128(type, access, accumulate) \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\nwgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type " {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, %64, %65, p, 1, 1, 0, 0;\n}\n" \
    : \
      access(d[0]), access(d[1]), access(d[2]), access(d[3]), access(d[4]), access(d[5]), access(d[6]), access(d[7]), \
      access(d[8]), access(d[9]), access(d[10]), access(d[11]), access(d[12]), access(d[13]), access(d[14]), access(d[15]), \
      access(d[16]), access(d[17]), access(d[18]), access(d[19]), access(d[20]), access(d[21]), access(d[22]), access(d[23]), \
      access(d[24]), access(d[25]), access(d[26]), access(d[27]), access(d[28]), access(d[29]), access(d[30]), access(d[31]), \
      access(d[32]), access(d[33]), access(d[34]), access(d[35]), access(d[36]), access(d[37]), access(d[38]), access(d[39]), \
      access(d[40]), access(d[41]), access(d[42]), access(d[43]), access(d[44]), access(d[45]), access(d[46]), access(d[47]), \
      access(d[48]), access(d[49]), access(d[50]), access(d[51]), access(d[52]), access(d[53]), access(d[54]), access(d[55]), \
      access(d[56]), access(d[57]), access(d[58]), access(d[59]), access(d[60]), access(d[61]), access(d[62]), access(d[63]) \
    : "l"(a), "l"(b), "r"(accumulate))
#define WGMMA_SS_64(type, access, accumulate) \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\nwgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type " {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, %32, %33, p, 1, 1, 0, 0;\n}\n" \
    : \
      access(d[0]), access(d[1]), access(d[2]), access(d[3]), access(d[4]), access(d[5]), access(d[6]), access(d[7]), \
      access(d[8]), access(d[9]), access(d[10]), access(d[11]), access(d[12]), access(d[13]), access(d[14]), access(d[15]), \
      access(d[16]), access(d[17]), access(d[18]), access(d[19]), access(d[20]), access(d[21]), access(d[22]), access(d[23]), \
      access(d[24]), access(d[25]), access(d[26]), access(d[27]), access(d[28]), access(d[29]), access(d[30]), access(d[31]) \
    : "l"(a), "l"(b), "r"(accumulate))
#define WGMMA_RS_128(type) \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %69, 0;\nwgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type " {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, {%64, %65, %66, %67}, %68, p, 1, 1, 1;\n}\n" \
    : \
      "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), \
      "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), \
      "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), \
      "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]), \
      "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), \
      "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), \
      "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]), \
      "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63]) \
    : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(1))
#define WGMMA_RS_64(type) \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\nwgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type " {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, {%32, %33, %34, %35}, %36, p, 1, 1, 1;\n}\n" \
    : \
      "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), \
      "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), \
      "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), \
      "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]) \
    : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(1))

/** d += a · bᵀ, both in shared memory with the summed axis contiguous: a 64 rows of this warp group, b as many rows as d has columns. */
template <int T> DEVICE void wgmmaShared(float (&d)[64], u64 a, u64 b) {
  if constexpr (T == BF16) { WGMMA_SS_128("bf16", "+f", 1); } else { WGMMA_SS_128("f16", "+f", 1); }
}
template <int T> DEVICE void wgmmaShared(float (&d)[32], u64 a, u64 b) {
  if constexpr (T == BF16) { WGMMA_SS_64("bf16", "+f", 1); } else { WGMMA_SS_64("f16", "+f", 1); }
}
/** d = a · bᵀ. What d held is not read, so that the compiler need not keep it while products are under way. */
template <int T> DEVICE void wgmmaSharedFirst(float (&d)[64], u64 a, u64 b) {
  if constexpr (T == BF16) { WGMMA_SS_128("bf16", "=f", 0); } else { WGMMA_SS_128("f16", "=f", 0); }
}
template <int T> DEVICE void wgmmaSharedFirst(float (&d)[32], u64 a, u64 b) {
  if constexpr (T == BF16) { WGMMA_SS_64("bf16", "=f", 0); } else { WGMMA_SS_64("f16", "=f", 0); }
}
/** d += a · b with a (16-bit, rows of this warp group) in registers and b [k, n] summed over its rows. */
template <int T> DEVICE void wgmmaRegisters(float (&d)[64], const u32 (&a)[4], u64 b) {
  if constexpr (T == BF16) { WGMMA_RS_128("bf16"); } else { WGMMA_RS_128("f16"); }
}
template <int T> DEVICE void wgmmaRegisters(float (&d)[32], const u32 (&a)[4], u64 b) {
  if constexpr (T == BF16) { WGMMA_RS_64("bf16"); } else { WGMMA_RS_64("f16"); }
}
DEVICE void wgmmaFence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void wgmmaCommit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int N> DEVICE void wgmmaWait() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory"); }
/** Keeps the compiler from moving uses of accumulators over a wait. */
template <int N> DEVICE void wgmmaPin(float (&d)[N]) {
#pragma unroll
  for (int i = 0; i < N; i++) asm volatile("" : "+f"(d[i])::"memory");
}

/** Rows are result rows or columns, the summed axis is contiguous. */
DEVICE u64 descriptorAlong(u32 address) {
  return u64((address & 0x3ffff) >> 4) | u64(1) << 16 | u64(1024 >> 4) << 32 | u64(1) << 62;
}
/** Rows are the summed axis, result columns are contiguous in panels `panelBytes` apart. */
DEVICE u64 descriptorAcross(u32 address, u32 panelBytes) {
  return u64((address & 0x3ffff) >> 4) | u64(panelBytes >> 4) << 16 | u64(1024 >> 4) << 32 | u64(1) << 62;
}

DEVICE void barrierInit(u64* barrier, u32 count) { asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(sharedAddress(barrier)), "r"(count) : "memory"); }
DEVICE void barrierInitFence() { asm volatile("fence.mbarrier_init.release.cluster;\nfence.proxy.async.shared::cta;" ::: "memory"); }
DEVICE void barrierExpect(u64* barrier, u32 bytes) { asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(sharedAddress(barrier)), "r"(bytes) : "memory"); }
DEVICE void barrierArrive(u64* barrier) { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(sharedAddress(barrier)) : "memory"); }
DEVICE void barrierWait(u64* barrier, u32 parity) {
  asm volatile(
      "{\n.reg .pred p;\nWAIT:\nmbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n@p bra DONE;\nbra WAIT;\nDONE:\n}" ::"r"(sharedAddress(barrier)), "r"(parity)
      : "memory");
}
/** Fetches the box at (d, h, t, b) into shared memory; the bytes count on the barrier. One thread calls it. */
DEVICE void copyBox(void* to, const TensorMap* map, u64* barrier, int d, int h, int t, int b) {
  asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(sharedAddress(to)), "l"(map),
               "r"(sharedAddress(barrier)), "r"(d), "r"(h), "r"(t), "r"(b)
               : "memory");
}
/** Registers move between the warp groups of a block; together they may not pass what the launch gave (168 a thread of 384), or the block waits for ever. */
template <int N> DEVICE void registersDown() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N)); }
template <int N> DEVICE void registersUp() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N)); }
/** A barrier of `threads` threads under one of the block's sixteen names; namedArrive counts on it without waiting. */
DEVICE void namedArrive(int name, int threads) { asm volatile("bar.arrive %0, %1;" ::"r"(name), "r"(threads) : "memory"); }
DEVICE void namedBarrier(int name, int threads) { asm volatile("bar.sync %0, %1;" ::"r"(name), "r"(threads) : "memory"); }
#endif
