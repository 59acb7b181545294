// A driver and a cuBLASLt that need no GPU: memory is the host's, kernels run in the emulator, graphs are lists of closures. Failures are
// asked for through the environment, read at every call:
//   FAKE_CUDA_FAIL="cuMemAlloc_v2=2@3,cuLaunchKernel=719"   the third call from now on (counted a symbol) fails with 2; every launch with 719
//   FAKE_CUDA_VERSION, FAKE_CUDA_DEVICES, FAKE_CUDA_MEMORY (bytes), FAKE_CUDA_CAPABILITY (e.g. 80)
// A fault (codes of 700 and above) stays: every later call gives it, as on a device.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "emulate.h"
#include "fake.h"

using CUresult = int;

namespace {

std::recursive_mutex lock;
std::map<std::string, int> calls;
std::string lastSpec;
int sticky = 0;
size_t used = 0;
std::map<uintptr_t, size_t> allocations;
std::map<void*, size_t> hostAllocations;

}  // namespace

namespace fake {

const char* env(const char* name, const char* fallback) {
  const char* v = getenv(name);
  return v && *v ? v : fallback;
}

/** The result that was asked for this call, or 0. */
int planned(const char* symbol) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  if (sticky) return sticky;
  const std::string spec = env("FAKE_CUDA_FAIL", "");
  if (spec != lastSpec) {
    calls.clear();
    lastSpec = spec;
  }
  if (spec.empty()) return 0;
  size_t at = 0;
  while (at < spec.size()) {
    size_t end = spec.find(',', at);
    if (end == std::string::npos) end = spec.size();
    const std::string item = spec.substr(at, end - at);
    at = end + 1;
    const size_t eq = item.find('=');
    if (eq == std::string::npos || item.substr(0, eq) != symbol) continue;
    const int code = atoi(item.c_str() + eq + 1);
    const size_t nth = item.find('@', eq);
    const int count = ++calls[symbol];
    if (nth == std::string::npos || count == atoi(item.c_str() + nth + 1)) {
      if (code >= 700 && code < 800) sticky = code;
      return code;
    }
  }
  return 0;
}
}  // namespace fake

using fake::env;

namespace {

struct Stream;
std::vector<Stream*> streams;
struct Stream {
  Stream() { streams.push_back(this); }
  ~Stream() { streams.erase(std::find(streams.begin(), streams.end(), this)); }
  std::vector<std::function<void()>>* capture = nullptr;
  bool invalid = false;
};
struct GraphObject { std::vector<std::function<void()>> work; };
struct EventObject { double at = 0; bool recorded = false; std::vector<std::function<void()>>* capture = nullptr; };
double now = 0;

std::mutex stuckLock;
// Never destroyed: a process may end while threads wait.
std::condition_variable& unstuck = *new std::condition_variable();
int stuck = 0;

/** Waits until nothing on the device is stuck. */
void drain() {
  std::unique_lock<std::mutex> guard(stuckLock);
  unstuck.wait(guard, [] { return stuck == 0; });
}

}  // namespace

namespace fake {

int enqueue(void* s, std::function<void()> work) {
  Stream* stream = static_cast<Stream*>(s);
  if (stream && stream->capture) stream->capture->push_back(std::move(work));
  else work();
  return 0;
}

bool inside(uint64_t p, size_t bytes) {
  auto it = allocations.upper_bound(p);
  if (it != allocations.begin() && p + bytes <= std::prev(it)->first + std::prev(it)->second) return true;
  for (auto& [h, n] : hostAllocations)
    if (p >= reinterpret_cast<uintptr_t>(h) && p + bytes <= reinterpret_cast<uintptr_t>(h) + n) return true;
  return false;
}

bool capturing(void* stream) { return static_cast<Stream*>(stream)->capture != nullptr; }

void stick(int by) {
  {
    std::lock_guard<std::mutex> guard(stuckLock);
    stuck += by;
  }
  unstuck.notify_all();
}

}  // namespace fake

using fake::enqueue;
using fake::inside;

FAKE CUresult cuInit(unsigned) { MAYBE_FAIL(cuInit); return 0; }
FAKE CUresult cuDriverGetVersion(int* v) { MAYBE_FAIL(cuDriverGetVersion); *v = atoi(env("FAKE_CUDA_VERSION", "13000")); return 0; }
FAKE CUresult cuGetErrorName(CUresult e, const char** name) {
  switch (e) {
    case 0: *name = "CUDA_SUCCESS"; break;
    case 1: *name = "CUDA_ERROR_INVALID_VALUE"; break;
    case 2: *name = "CUDA_ERROR_OUT_OF_MEMORY"; break;
    case 100: *name = "CUDA_ERROR_NO_DEVICE"; break;
    case 209: *name = "CUDA_ERROR_NO_BINARY_FOR_GPU"; break;
    case 500: *name = "CUDA_ERROR_NOT_FOUND"; break;
    case 700: *name = "CUDA_ERROR_ILLEGAL_ADDRESS"; break;
    case 719: *name = "CUDA_ERROR_LAUNCH_FAILED"; break;
    default: *name = nullptr; return 1;
  }
  return 0;
}
FAKE CUresult cuGetErrorString(CUresult e, const char** text) {
  if (e == 2) { *text = "out of memory"; return 0; }
  if (e == 700) { *text = "an illegal memory access was encountered"; return 0; }
  *text = nullptr;
  return 1;
}
FAKE CUresult cuDeviceGetCount(int* n) { MAYBE_FAIL(cuDeviceGetCount); *n = atoi(env("FAKE_CUDA_DEVICES", "1")); return 0; }
FAKE CUresult cuDeviceGet(int* d, int i) { MAYBE_FAIL(cuDeviceGet); *d = i; return 0; }
FAKE CUresult cuDeviceGetName(char* name, int n, int) { MAYBE_FAIL(cuDeviceGetName); snprintf(name, n, "Emulated GPU"); return 0; }
static size_t totalMemory() { return strtoull(env("FAKE_CUDA_MEMORY", "2147483648"), nullptr, 10); }
FAKE CUresult cuDeviceTotalMem_v2(size_t* n, int) { MAYBE_FAIL(cuDeviceTotalMem_v2); *n = totalMemory(); return 0; }
FAKE CUresult cuDeviceGetAttribute(int* v, int a, int) {
  MAYBE_FAIL(cuDeviceGetAttribute);
  const int capability = atoi(env("FAKE_CUDA_CAPABILITY", "80"));
  switch (a) {
    case 16: *v = 4; break;
    case 38: *v = 1 << 20; break;
    case 75: *v = capability / 10; break;
    case 76: *v = capability % 10; break;
    case 97: *v = 166912; break;
    default: *v = 0;
  }
  return 0;
}
FAKE CUresult cuDevicePrimaryCtxRetain(void** c, int) { MAYBE_FAIL(cuDevicePrimaryCtxRetain); *c = &used; return 0; }
FAKE CUresult cuDevicePrimaryCtxRelease_v2(int) { sticky = 0; return 0; }
FAKE CUresult cuCtxSetCurrent(void*) { MAYBE_FAIL(cuCtxSetCurrent); return 0; }
FAKE CUresult cuCtxSynchronize() { MAYBE_FAIL(cuCtxSynchronize); drain(); return 0; }
FAKE CUresult cuMemGetInfo_v2(size_t* f, size_t* t) { MAYBE_FAIL(cuMemGetInfo_v2); *t = totalMemory(); *f = *t > used ? *t - used : 0; return 0; }
FAKE CUresult cuMemAlloc_v2(uint64_t* p, size_t n) {
  MAYBE_FAIL(cuMemAlloc_v2);
  std::lock_guard<std::recursive_mutex> guard(lock);
  if (n > totalMemory() || used + n > totalMemory()) return 2;
  void* m = aligned_alloc(256, (n + 255) / 256 * 256);
  if (!m) return 2;
  memset(m, 0xff, n);  // NaN, so that what nothing wrote is seen
  *p = reinterpret_cast<uintptr_t>(m);
  allocations[*p] = n;
  used += n;
  return 0;
}
FAKE CUresult cuMemFree_v2(uint64_t p) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  auto it = allocations.find(p);
  if (it == allocations.end()) return 1;
  used -= it->second;
  memset(reinterpret_cast<void*>(p), 0xff, it->second);
  allocations.erase(it);
  free(reinterpret_cast<void*>(p));
  return 0;
}
FAKE CUresult cuMemHostAlloc(void** p, size_t n, unsigned) {
  MAYBE_FAIL(cuMemHostAlloc);
  std::lock_guard<std::recursive_mutex> guard(lock);
  *p = aligned_alloc(4096, (n + 4095) / 4096 * 4096);
  hostAllocations[*p] = n;
  return 0;
}
FAKE CUresult cuMemFreeHost(void* p) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  if (!hostAllocations.erase(p)) return 1;
  free(p);
  return 0;
}
FAKE CUresult cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t n, void* s) {
  MAYBE_FAIL(cuMemcpyHtoDAsync_v2);
  if (!inside(to, n)) return 1;
  return enqueue(s, [=] { memcpy(reinterpret_cast<void*>(to), from, n); });
}
FAKE CUresult cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t n, void* s) {
  MAYBE_FAIL(cuMemcpyDtoHAsync_v2);
  if (!inside(from, n)) return 1;
  return enqueue(s, [=] { memcpy(to, reinterpret_cast<void*>(from), n); });
}
FAKE CUresult cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t n, void* s) {
  MAYBE_FAIL(cuMemcpyDtoDAsync_v2);
  if (!inside(from, n) || !inside(to, n)) return 1;
  return enqueue(s, [=] { memmove(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), n); });
}
FAKE CUresult cuMemsetD8Async(uint64_t to, unsigned char v, size_t n, void* s) {
  MAYBE_FAIL(cuMemsetD8Async);
  if (!inside(to, n)) return 1;
  return enqueue(s, [=] { memset(reinterpret_cast<void*>(to), v, n); });
}
FAKE CUresult cuMemsetD16Async(uint64_t to, unsigned short v, size_t n, void* s) {
  MAYBE_FAIL(cuMemsetD16Async);
  if (!inside(to, n * 2)) return 1;
  return enqueue(s, [=] { std::fill_n(reinterpret_cast<uint16_t*>(to), n, v); });
}
FAKE CUresult cuMemsetD32Async(uint64_t to, unsigned v, size_t n, void* s) {
  MAYBE_FAIL(cuMemsetD32Async);
  if (!inside(to, n * 4)) return 1;
  return enqueue(s, [=] { std::fill_n(reinterpret_cast<uint32_t*>(to), n, v); });
}
FAKE CUresult cuStreamCreateWithPriority(void** s, unsigned, int) { MAYBE_FAIL(cuStreamCreateWithPriority); *s = new Stream(); return 0; }
FAKE CUresult cuStreamDestroy_v2(void* s) { delete static_cast<Stream*>(s); return 0; }
FAKE CUresult cuStreamSynchronize(void*) { MAYBE_FAIL(cuStreamSynchronize); drain(); return 0; }
FAKE CUresult cuStreamWaitEvent(void* s, void* e, unsigned) {
  MAYBE_FAIL(cuStreamWaitEvent);
  // A stream that waits for an event of a recorded stream joins the recording.
  EventObject* event = static_cast<EventObject*>(e);
  Stream* stream = static_cast<Stream*>(s);
  if (event->capture && !stream->capture) stream->capture = event->capture;
  return 0;
}
FAKE CUresult cuStreamBeginCapture_v2(void* s, int) {
  MAYBE_FAIL(cuStreamBeginCapture_v2);
  static_cast<Stream*>(s)->capture = new std::vector<std::function<void()>>();
  return 0;
}
FAKE CUresult cuStreamEndCapture(void* s, void** g) {
  Stream* stream = static_cast<Stream*>(s);
  auto* work = stream->capture;
  // Streams that joined the recording leave it too.
  for (Stream* other : streams)
    if (other->capture == work) other->capture = nullptr;
  *g = nullptr;
  MAYBE_FAIL(cuStreamEndCapture);
  GraphObject* graph = new GraphObject();
  graph->work = std::move(*work);
  delete work;
  *g = graph;
  return 0;
}
FAKE CUresult cuStreamWriteValue32_v2(void* s, uint64_t at, uint32_t v, unsigned) {
  if (sticky) return sticky;
  return enqueue(s, [=] { *reinterpret_cast<volatile uint32_t*>(at) = v; });
}
FAKE CUresult cuEventCreate(void** e, unsigned) { MAYBE_FAIL(cuEventCreate); *e = new EventObject(); return 0; }
FAKE CUresult cuEventRecord(void* e, void* s) {
  MAYBE_FAIL(cuEventRecord);
  EventObject* event = static_cast<EventObject*>(e);
  event->capture = static_cast<Stream*>(s)->capture;
  event->recorded = true;
  event->at = now += 1.0;
  return 0;
}
FAKE CUresult cuEventQuery(void*) {
  MAYBE_FAIL(cuEventQuery);
  std::lock_guard<std::mutex> guard(stuckLock);
  return stuck > 0 ? 600 : 0;
}
FAKE CUresult cuEventSynchronize(void*) { MAYBE_FAIL(cuEventSynchronize); drain(); return 0; }
FAKE CUresult cuEventElapsedTime(float* ms, void* a, void* b) {
  MAYBE_FAIL(cuEventElapsedTime);
  *ms = static_cast<float>(static_cast<EventObject*>(b)->at - static_cast<EventObject*>(a)->at);
  return 0;
}
FAKE CUresult cuEventDestroy_v2(void* e) { delete static_cast<EventObject*>(e); return 0; }
FAKE CUresult cuModuleLoadData(void** m, const void*) { MAYBE_FAIL(cuModuleLoadData); *m = new int(0); return 0; }
FAKE CUresult cuModuleUnload(void* m) { delete static_cast<int*>(m); return 0; }
FAKE CUresult cuModuleGetFunction(void** f, void*, const char* name) {
  MAYBE_FAIL(cuModuleGetFunction);
  auto it = emu::registry().find(name);
  if (it == emu::registry().end()) return 500;
  *f = &it->second;
  return 0;
}
FAKE CUresult cuFuncGetAttribute(int* v, int a, void*) { MAYBE_FAIL(cuFuncGetAttribute); *v = a == 0 ? 1024 : a == 4 ? 32 : 0; return 0; }
FAKE CUresult cuFuncSetAttribute(void*, int, int) { MAYBE_FAIL(cuFuncSetAttribute); return 0; }
FAKE CUresult cuLaunchKernel(void* f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, void* s, void**, void** extra) {
  MAYBE_FAIL(cuLaunchKernel);
  const emu::Kernel* kernel = static_cast<emu::Kernel*>(f);
  // More than a processor gets through: a list that a test has damaged.
  if (uint64_t(gx) * gy * gz > 65536) return 1;
  std::vector<unsigned char> params;
  if (extra) {
    const size_t n = *static_cast<size_t*>(extra[3]);
    if (n < kernel->paramBytes || n > kernel->paramBytes + 8) return 1;
    params.assign(static_cast<unsigned char*>(extra[1]), static_cast<unsigned char*>(extra[1]) + n);
  } else if (kernel->paramBytes) {
    return 1;
  }
  return enqueue(s, [=] { emu::launch(*kernel, {gx, gy, gz}, {bx, by, bz}, shared, params.data()); });
}
/** The driver's CUlaunchConfig and CUlaunchAttribute. */
struct LaunchAttribute { int id; char pad[4]; int flag; char rest[60]; };
struct LaunchConfig { unsigned grid[3], block[3], shared; void* stream; LaunchAttribute* attributes; unsigned count; };
FAKE CUresult cuLaunchKernelEx(const LaunchConfig* c, void* f, void** params, void** extra) {
  MAYBE_FAIL(cuLaunchKernelEx);
  // The one attribute that is asked for: a launch may begin while the one before it ends. Here each ends before the next.
  if (c->count != 1 || c->attributes->id != 6 || c->attributes->flag != 1) return 1;
  return cuLaunchKernel(f, c->grid[0], c->grid[1], c->grid[2], c->block[0], c->block[1], c->block[2], c->shared, c->stream, params, extra);
}
FAKE CUresult cuLaunchHostFunc(void* s, void (*fn)(void*), void* data) {
  MAYBE_FAIL(cuLaunchHostFunc);
  return enqueue(s, [=] { fn(data); });
}
FAKE CUresult cuGraphInstantiateWithFlags(void** e, void* g, unsigned long long) {
  MAYBE_FAIL(cuGraphInstantiateWithFlags);
  GraphObject* exec = new GraphObject();
  exec->work = static_cast<GraphObject*>(g)->work;
  *e = exec;
  return 0;
}
FAKE CUresult cuGraphLaunch(void* e, void*) {
  MAYBE_FAIL(cuGraphLaunch);
  for (auto& work : static_cast<GraphObject*>(e)->work) work();
  return 0;
}
FAKE CUresult cuGraphExecDestroy(void* e) { delete static_cast<GraphObject*>(e); return 0; }
FAKE CUresult cuGraphDestroy(void* g) { delete static_cast<GraphObject*>(g); return 0; }
FAKE CUresult cuGraphGetNodes(void* g, void**, size_t* n) { MAYBE_FAIL(cuGraphGetNodes); *n = static_cast<GraphObject*>(g)->work.size(); return 0; }

// ---- cuBLASLt: column-major, as documented ----

namespace {
struct Layout { int type; uint64_t rows, cols; int64_t ld; int32_t batch = 1; int64_t stride = 0; };
struct Desc { int compute; int32_t transA = 0, transB = 0, epilogue = 1, biasType = 0; uint64_t bias = 0, scaleA = 0, scaleB = 0; int32_t modeA = 0, modeB = 0; };
struct Heuristic { uint64_t algo[8]; size_t workspace; int state; float waves; int reserved[4]; };

float readE4m3(uint8_t b) {
  const int e = b >> 3 & 15, m = b & 7;
  if (e == 15 && m == 7) return NAN;
  const float v = e ? ldexpf(1.f + m / 8.f, e - 7) : ldexpf(m / 8.f, -6);
  return b & 128 ? -v : v;
}
float element(int type, const void* p, int64_t i) {
  switch (type) {
    case 0: return static_cast<const float*>(p)[i];
    case 2: return emu::halfToFloat(static_cast<const uint16_t*>(p)[i]);
    case 14: { uint32_t b = uint32_t(static_cast<const uint16_t*>(p)[i]) << 16; float f; memcpy(&f, &b, 4); return f; }
    case 28: return readE4m3(static_cast<const uint8_t*>(p)[i]);
    default: return NAN;
  }
}
void setElement(int type, void* p, int64_t i, float v) {
  if (type == 0) static_cast<float*>(p)[i] = v;
  else if (type == 2) static_cast<uint16_t*>(p)[i] = emu::floatToHalf(v);
  else if (type == 14) {
    uint32_t b;
    memcpy(&b, &v, 4);
    static_cast<uint16_t*>(p)[i] = v != v ? 0x7fff : uint16_t((b + 0x7fff + (b >> 16 & 1)) >> 16);
  }
}
}  // namespace

FAKE size_t cublasLtGetVersion() { return 130000; }
FAKE int cublasLtCreate(void** h) { MAYBE_FAIL(cublasLtCreate); *h = new int(0); return 0; }
FAKE int cublasLtDestroy(void* h) { delete static_cast<int*>(h); return 0; }
FAKE int cublasLtMatmulDescCreate(void** d, int compute, int) { MAYBE_FAIL(cublasLtMatmulDescCreate); *d = new Desc{compute}; return 0; }
FAKE int cublasLtMatmulDescDestroy(void* d) { delete static_cast<Desc*>(d); return 0; }
FAKE int cublasLtMatmulDescSetAttribute(void* p, int a, const void* v, size_t n) {
  Desc* d = static_cast<Desc*>(p);
  void* to = nullptr;
  size_t bytes = 4;
  switch (a) {
    case 3: to = &d->transA; break;
    case 4: to = &d->transB; break;
    case 7: to = &d->epilogue; break;
    case 8: to = &d->bias; bytes = 8; break;
    case 17: to = &d->scaleA; bytes = 8; break;
    case 18: to = &d->scaleB; bytes = 8; break;
    case 26: to = &d->biasType; break;
    case 31: to = &d->modeA; break;
    case 32: to = &d->modeB; break;
    default: return 7;
  }
  if (n != bytes) return 7;
  memcpy(to, v, n);
  return 0;
}
FAKE int cublasLtMatrixLayoutCreate(void** l, int type, uint64_t rows, uint64_t cols, int64_t ld) {
  if (ld < int64_t(rows)) return 7;
  *l = new Layout{type, rows, cols, ld};
  return 0;
}
FAKE int cublasLtMatrixLayoutDestroy(void* l) { delete static_cast<Layout*>(l); return 0; }
FAKE int cublasLtMatrixLayoutSetAttribute(void* p, int a, const void* v, size_t n) {
  Layout* l = static_cast<Layout*>(p);
  if (a == 5 && n == 4) memcpy(&l->batch, v, 4);
  else if (a == 6 && n == 8) memcpy(&l->stride, v, 8);
  else return 7;
  return 0;
}
FAKE int cublasLtMatmulPreferenceCreate(void** p) { *p = new int(0); return 0; }
FAKE int cublasLtMatmulPreferenceDestroy(void* p) { delete static_cast<int*>(p); return 0; }
FAKE int cublasLtMatmulPreferenceSetAttribute(void*, int, const void*, size_t) { return 0; }
FAKE int cublasLtMatmulAlgoGetHeuristic(void*, void* d, void* a, void* b, void*, void* c, void*, int requested, void* results, int* found) {
  MAYBE_FAIL(cublasLtMatmulAlgoGetHeuristic);
  const Desc* desc = static_cast<Desc*>(d);
  const Layout *la = static_cast<Layout*>(a), *lb = static_cast<Layout*>(b), *lc = static_cast<Layout*>(c);
  const uint64_t m = desc->transA ? la->cols : la->rows, k = desc->transA ? la->rows : la->cols, k2 = desc->transB ? lb->cols : lb->rows, n = desc->transB ? lb->rows : lb->cols;
  *found = 0;
  if (m != lc->rows || n != lc->cols || k != k2 || la->type != lb->type) return 15;
  *found = std::min(requested, 3);
  for (int i = 0; i < *found; i++) static_cast<Heuristic*>(results)[i] = Heuristic{{uint64_t(i + 1)}, size_t(i) * 1024, 0, 1.f, {}};
  return 0;
}
FAKE int cublasLtMatmulAlgoCheck(void*, void*, void*, void*, void*, void*, const void* algo, void* result) {
  const uint64_t id = *static_cast<const uint64_t*>(algo);
  if (id < 1 || id > 3) return 15;
  *static_cast<Heuristic*>(result) = Heuristic{{id}, size_t(id - 1) * 1024, 0, 1.f, {}};
  return 0;
}
FAKE int cublasLtMatmul(void*, void* d, const float* alpha, const void* a, void* la_, const void* b, void* lb_, const float* beta, const void*, void*, void* out, void* lc_, const void*, void* workspace, size_t workspaceBytes, void* stream) {
  MAYBE_FAIL(cublasLtMatmul);
  const Desc desc = *static_cast<Desc*>(d);
  const Layout la = *static_cast<Layout*>(la_), lb = *static_cast<Layout*>(lb_), lc = *static_cast<Layout*>(lc_);
  const float al = *alpha, be = *beta;
  if (workspaceBytes && !inside(reinterpret_cast<uintptr_t>(workspace), workspaceBytes)) return 7;
  return enqueue(stream, [=] {
    const int64_t m = lc.rows, n = lc.cols, k = desc.transA ? la.rows : la.cols;
    for (int64_t z = 0; z < lc.batch; z++)
      for (int64_t j = 0; j < n; j++)
        for (int64_t i = 0; i < m; i++) {
          double sum = 0;
          for (int64_t p = 0; p < k; p++)
            sum += double(element(la.type, a, z * la.stride + (desc.transA ? i * la.ld + p : p * la.ld + i))) *
                   element(lb.type, b, z * lb.stride + (desc.transB ? p * lb.ld + j : j * lb.ld + p));
          float v = static_cast<float>(al * sum);
          if (desc.scaleA) v *= reinterpret_cast<const float*>(desc.scaleA)[desc.modeA == 3 ? i : 0];
          if (desc.scaleB) v *= reinterpret_cast<const float*>(desc.scaleB)[desc.modeB == 3 ? j : 0];
          const int64_t at = z * lc.stride + j * lc.ld + i;
          if (be != 0) v += be * element(lc.type, out, at);
          if (desc.epilogue == 4) v += element(desc.biasType, reinterpret_cast<const void*>(desc.bias), i);
          setElement(lc.type, out, at, v);
        }
  });
}
