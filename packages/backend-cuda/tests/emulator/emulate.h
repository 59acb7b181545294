// Runs CUDA kernels on the processor, so that their arithmetic and their barriers are tested where there is no GPU: every thread of a
// block is a fiber, blocks run one after another. A barrier that not all live threads reach ends the process with a message.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <tuple>
#include <utility>

struct Dim3 { unsigned x, y, z; };
extern Dim3 threadIdx, blockIdx, blockDim, gridDim;

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__
#define __constant__ static const
#define __shared__ static
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __grid_constant__
#define DYNAMIC_SHARED(type, name) type* name = reinterpret_cast<type*>(emu::dynamicShared)

namespace emu {

extern unsigned char* dynamicShared;
constexpr size_t kSlot = 64;

void blockBarrier();
int blockOr(int predicate);
/** Each lane leaves `bytes` and gets the slots of all 32, which stay valid until its second exchange from now. */
unsigned char* exchange(const void* mine, size_t bytes);
unsigned lane();
unsigned liveMask();

using Thunk = void (*)(const unsigned char* params);
struct Kernel { std::string name; Thunk thunk; size_t paramBytes; };
std::map<std::string, Kernel>& registry();
/** False when the kernel ended in a fault that the emulator can see. */
bool launch(const Kernel& kernel, Dim3 grid, Dim3 block, size_t sharedBytes, const unsigned char* params);

inline float halfToFloat(uint16_t b) { _Float16 h; memcpy(&h, &b, 2); return static_cast<float>(h); }
inline uint16_t floatToHalf(float f) { _Float16 h = static_cast<_Float16>(f); uint16_t b; memcpy(&b, &h, 2); return b; }
inline uint32_t sharedOffset(const void* p) { return static_cast<uint32_t>(reinterpret_cast<uintptr_t>(p)); }

inline void loadMatrix(uint32_t (&r)[4], const void* row, bool transposed) {
  unsigned char* slots = exchange(&row, sizeof row);
  const unsigned l = lane();
  for (int m = 0; m < 4; m++) {
    uint16_t e[2];
    for (unsigned j = 0; j < 2; j++) {
      const unsigned i = transposed ? (l % 4) * 2 + j : l / 4, k = transposed ? l / 4 : (l % 4) * 2 + j;
      const uint16_t* p;
      memcpy(&p, slots + (m * 8 + i) * kSlot, sizeof p);
      e[j] = p[k];
    }
    r[m] = e[0] | uint32_t(e[1]) << 16;
  }
}

inline void multiplyAdd(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, bool bf16) {
  const uint32_t mine[6] = {a[0], a[1], a[2], a[3], b0, b1};
  unsigned char* slots = exchange(mine, sizeof mine);
  auto value = [&](unsigned owner, unsigned reg, unsigned half) {
    uint32_t w;
    memcpy(&w, slots + owner * kSlot + reg * 4, 4);
    const uint16_t h = uint16_t(w >> (16 * half));
    if (!bf16) return halfToFloat(h);
    const uint32_t bits = uint32_t(h) << 16;
    float f;
    memcpy(&f, &bits, 4);
    return f;
  };
  const unsigned l = lane();
  for (unsigned i = 0; i < 4; i++) {
    const unsigned row = l / 4 + 8 * (i / 2), col = (l % 4) * 2 + i % 2;
    float sum = d[i];
    for (unsigned k = 0; k < 16; k++) {
      const float x = value((row % 8) * 4 + (k % 8) / 2, (row / 8) + 2 * (k / 8), k % 2);
      const float y = value(col * 4 + (k % 8) / 2, 4 + k / 8, k % 2);
      sum += x * y;
    }
    d[i] = sum;
  }
}

template <typename T> T shuffle(T v, unsigned from) {
  static_assert(sizeof(T) <= kSlot);
  unsigned char* slots = exchange(&v, sizeof v);
  T r;
  memcpy(&r, slots + (from & 31) * kSlot, sizeof r);
  return r;
}

/** Unpacks a packed parameter block at natural alignment and calls the kernel. */
template <typename... Args> struct Caller {
  template <void (*F)(Args...)> static void call(const unsigned char* params) {
    size_t at = 0;
    auto next = [&](auto* tag) {
      using T = std::remove_pointer_t<decltype(tag)>;
      at = (at + alignof(T) - 1) / alignof(T) * alignof(T);
      T v;
      memcpy(static_cast<void*>(&v), params + at, sizeof(T));
      at += sizeof(T);
      return v;
    };
    std::tuple<Args...> values{next(static_cast<Args*>(nullptr))...};
    std::apply(F, values);
  }
  static size_t bytes() {
    size_t at = 0;
    ((at = (at + alignof(Args) - 1) / alignof(Args) * alignof(Args) + sizeof(Args)), ...);
    return at;
  }
};
template <typename... Args> Caller<Args...> callerOf(void (*)(Args...));

struct Register {
  Register(const char* name, Thunk thunk, size_t bytes) { registry()[name] = {name, thunk, bytes}; }
};
#define EMU_REGISTER(name) \
  static emu::Register register_##name(#name, &decltype(emu::callerOf(&name))::template call<&name>, decltype(emu::callerOf(&name))::bytes())

}  // namespace emu

inline void __syncthreads() { emu::blockBarrier(); }
inline int __syncthreads_or(int p) { return emu::blockOr(p); }
inline void __syncwarp(unsigned = 0xffffffffu) { int x = 0; emu::exchange(&x, sizeof x); }
inline void __threadfence() {}
template <typename T> T __shfl_xor_sync(unsigned, T v, int mask) { return emu::shuffle(v, emu::lane() ^ unsigned(mask)); }
template <typename T> T __shfl_sync(unsigned, T v, int from, int width = 32) { return emu::shuffle(v, (emu::lane() & ~unsigned(width - 1)) | (unsigned(from) & unsigned(width - 1))); }
template <typename T> T __shfl_down_sync(unsigned, T v, int by) { const unsigned to = emu::lane() + unsigned(by); T r = emu::shuffle(v, to); return to < 32 ? r : v; }
template <typename T> T __shfl_up_sync(unsigned, T v, int by) { const int to = int(emu::lane()) - by; T r = emu::shuffle(v, unsigned(to)); return to >= 0 ? r : v; }
inline unsigned __ballot_sync(unsigned, int predicate) {
  unsigned char* slots = emu::exchange(&predicate, sizeof predicate);
  unsigned bits = 0;
  const unsigned live = emu::liveMask();
  for (unsigned i = 0; i < 32; i++) {
    int p;
    memcpy(&p, slots + i * emu::kSlot, sizeof p);
    if (p && (live >> i & 1)) bits |= 1u << i;
  }
  return bits;
}
inline int __any_sync(unsigned m, int p) { return __ballot_sync(m, p) != 0; }
inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline int __clz(int v) { return v ? __builtin_clz(unsigned(v)) : 32; }
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned s) {
  const uint64_t v = uint64_t(b) << 32 | a;
  unsigned r = 0;
  for (int i = 0; i < 4; i++) r |= unsigned(v >> (8 * (s >> (4 * i) & 7)) & 0xff) << (8 * i);
  return r;
}
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned(uint64_t(a) * b >> 32); }
inline float __fmul_rn(float a, float b) { volatile float r = a * b; return r; }
inline float __fadd_rn(float a, float b) { volatile float r = a + b; return r; }
inline float __fsub_rn(float a, float b) { volatile float r = a - b; return r; }
inline float __fdiv_rn(float a, float b) { volatile float r = a / b; return r; }
inline float __frcp_rn(float a) { volatile float r = 1.f / a; return r; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float rsqrtf(float x) { return 1.f / sqrtf(x); }
inline float exp10f_(float x) { return powf(10.f, x); }
inline float __expf(float x) { return expf(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __logf(float x) { return logf(x); }
inline void sincospif(float x, float* s, float* c) { *s = sinf(3.14159265358979f * x); *c = cosf(3.14159265358979f * x); }
template <typename T> T __ldg(const T* p) { return *p; }
template <typename T> T __ldcs(const T* p) { return *p; }
template <typename T> void __stcs(T* p, T v) { *p = v; }
template <typename T> T min(T a, T b) { return b < a ? b : a; }
template <typename T> T max(T a, T b) { return a < b ? b : a; }
inline long long min(long long a, int b) { return b < a ? b : a; }
inline long long clock64() { return 0; }
