// An NCCL that needs no GPU: ranks are processes that meet in a mapped file. As the real one, a communicator that does not block works on a
// thread of its own, and neither ends nor is aborted while recordings hold its ops. Beside FAKE_CUDA_FAIL:
//   FAKE_CUDA_FAIL="ncclAsync=6"   what ncclCommGetAsyncError tells
//   FAKE_CUDA_NCCL_STUCK=1         collectives are enqueued and never end, until the communicator is aborted
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "emulate.h"
#include "fake.h"

namespace {

constexpr size_t kSlot = 1 << 20;
constexpr int kInProgress = 7;

struct Id {
  char path[128];
};
struct Config {
  size_t size;
  unsigned magic, version;
  int blocking;
};
struct Meeting {
  std::atomic<uint32_t> size, joined, arrived, generation;
};
struct Comm {
  int rank = 0, size = 0;
  std::string path;
  Meeting* meeting = nullptr;
  size_t mapped = 0;
  std::atomic<int> state{0};
  std::atomic<bool> aborted{false};
  /** Recorded ops. */
  std::atomic<int> refs{0};
  std::atomic<int> stuck{0};
  std::thread worker;

  uint8_t* slot(int r) const { return reinterpret_cast<uint8_t*>(meeting) + 4096 + size_t(r) * kSlot; }
  bool meet() const {
    const uint32_t generation = meeting->generation;
    if (++meeting->arrived == static_cast<uint32_t>(size)) {
      meeting->arrived = 0;
      meeting->generation++;
      return true;
    }
    while (meeting->generation == generation) {
      if (aborted) return false;
      usleep(50);
    }
    return true;
  }
  /** Does it beside the caller, whose next question of the state waits for it. */
  void start(std::function<int()> work) {
    if (worker.joinable()) worker.join();
    state = kInProgress;
    worker = std::thread([this, work] { state = work(); });
  }
};

float element(int type, const uint8_t* p, size_t i) {
  if (type == 7) return reinterpret_cast<const float*>(p)[i];
  const uint16_t half = reinterpret_cast<const uint16_t*>(p)[i];
  if (type == 6) return emu::halfToFloat(half);
  const uint32_t bits = uint32_t(half) << 16;
  float f;
  memcpy(&f, &bits, 4);
  return f;
}
void setElement(int type, uint8_t* p, size_t i, float v) {
  uint16_t* halves = reinterpret_cast<uint16_t*>(p);
  if (type == 7) reinterpret_cast<float*>(p)[i] = v;
  else if (type == 6) halves[i] = emu::floatToHalf(v);
  else {
    uint32_t b;
    memcpy(&b, &v, 4);
    halves[i] = v != v ? 0x7fff : uint16_t((b + 0x7fff + (b >> 16 & 1)) >> 16);
  }
}

/** out[i] = the reduction of element i of every rank's slot. */
void reduce(const Comm& c, int type, int op, size_t count, uint8_t* out) {
  for (size_t i = 0; i < count; i++) {
    if (type == 2) {
      int32_t total = reinterpret_cast<int32_t*>(c.slot(0))[i];
      for (int r = 1; r < c.size; r++) {
        const int32_t v = reinterpret_cast<int32_t*>(c.slot(r))[i];
        total = op == 2 ? std::max(total, v) : int32_t(uint32_t(total) + uint32_t(v));
      }
      reinterpret_cast<int32_t*>(out)[i] = total;
      continue;
    }
    float total = element(type, c.slot(0), i);
    for (int r = 1; r < c.size; r++) {
      const float v = element(type, c.slot(r), i);
      total = op == 2 ? std::max(total, v) : total + v;
    }
    setElement(type, out, i, op == 4 ? total / c.size : total);
  }
}

/** In pieces that fit the slots: all put theirs down, meet, and read. `piece(at, n)` reads elements [at, at + n) of what was put down. */
template <typename Put, typename Take>
void exchange(const Comm& c, size_t count, size_t width, Put put, Take take) {
  const size_t most = kSlot / width;
  for (size_t at = 0; at < count; at += most) {
    const size_t n = std::min(most, count - at);
    put(at, n);
    if (!c.meet()) return;
    take(at, n);
    if (!c.meet()) return;
  }
}

enum class Kind { AllReduce, AllGather, ReduceScatter, Broadcast };

int collective(const char* symbol, Kind kind, const void* from, void* to, size_t count, int type, int op, int root, Comm* c, void* stream) {
  if (const int failed = fake::planned(symbol)) return failed;
  const size_t width = type == 7 || type == 2 ? 4 : 2;
  const size_t ins = count * width * (kind == Kind::ReduceScatter ? c->size : 1);
  const size_t outs = count * width * (kind == Kind::AllGather ? c->size : 1);
  if (!fake::inside(reinterpret_cast<uintptr_t>(from), ins) || !fake::inside(reinterpret_cast<uintptr_t>(to), outs)) return 4;
  if (*fake::env("FAKE_CUDA_NCCL_STUCK", "")) {
    c->stuck++;
    fake::stick(1);
    return 0;
  }
  const uint8_t* x = static_cast<const uint8_t*>(from);
  uint8_t* y = static_cast<uint8_t*>(to);
  const auto work = [=] {
    const auto putAll = [&](size_t at, size_t n) { memcpy(c->slot(c->rank), x + at * width, n * width); };
    switch (kind) {
      case Kind::AllReduce:
        exchange(*c, count, width, putAll, [&](size_t at, size_t n) { reduce(*c, type, op, n, y + at * width); });
        break;
      case Kind::AllGather:
        exchange(*c, count, width, putAll, [&](size_t at, size_t n) {
          for (int r = 0; r < c->size; r++) memcpy(y + (r * count + at) * width, c->slot(r), n * width);
        });
        break;
      case Kind::ReduceScatter:
        // y may be this rank's part of x: written when all was put down.
        for (int part = 0; part < c->size; part++)
          exchange(
              *c, count, width, [&](size_t at, size_t n) { memcpy(c->slot(c->rank), x + (part * count + at) * width, n * width); },
              [&](size_t at, size_t n) {
                if (part == c->rank) reduce(*c, type, op, n, y + at * width);
              });
        break;
      case Kind::Broadcast:
        exchange(*c, count, width, putAll, [&](size_t at, size_t n) { memmove(y + at * width, c->slot(root), n * width); });
    }
  };
  std::function<void()> task = work;
  if (fake::capturing(stream)) {
    c->refs++;
    task = [work, held = std::shared_ptr<void>(nullptr, [c](void*) { c->refs--; })] { work(); };
  }
  c->start([=] { return fake::enqueue(stream, task); });
  return kInProgress;
}

void end(Comm* c) {
  while (c->refs > 0) usleep(100);
  fake::stick(-c->stuck.exchange(0));
  if (c->worker.joinable()) c->worker.join();
  if (c->meeting) munmap(c->meeting, c->mapped);
  delete c;
}

}  // namespace

FAKE int ncclGetVersion(int* version) {
  *version = 22703;
  return 0;
}
FAKE const char* ncclGetErrorString(int result) {
  return result == 6 ? "remote process exited or there was a network error" : result == 4 ? "invalid argument" : "internal error";
}
FAKE const char* ncclGetLastError(void*) { return ""; }
FAKE int ncclGetUniqueId(Id* id) {
  MAYBE_FAIL(ncclGetUniqueId);
  static std::atomic<int> count{0};
  snprintf(id->path, sizeof id->path, "%s/fake-nccl-%d-%d", fake::env("TMPDIR", "/tmp"), getpid(), ++count);
  return 0;
}
FAKE int ncclCommInitRankConfig(Comm** comm, int size, Id id, int rank, Config* config) {
  MAYBE_FAIL(ncclCommInitRankConfig);
  if (config->magic != 0xcafebeef || config->blocking != 0 || id.path[0] != '/') return 4;
  Comm* c = *comm = new Comm();
  c->rank = rank;
  c->size = size;
  c->path = std::string(id.path, strnlen(id.path, sizeof id.path));
  c->start([c] {
    const int file = open(c->path.c_str(), O_RDWR | O_CREAT, 0600);
    c->mapped = 4096 + size_t(c->size) * kSlot;
    if (file < 0 || ftruncate(file, c->mapped) != 0) return 2;
    void* at = mmap(nullptr, c->mapped, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (at == MAP_FAILED) return 2;
    c->meeting = static_cast<Meeting*>(at);
    uint32_t none = 0;
    if (!c->meeting->size.compare_exchange_strong(none, c->size) && none != static_cast<uint32_t>(c->size)) return 4;
    c->meeting->joined++;
    while (c->meeting->joined < static_cast<uint32_t>(c->size)) {
      if (c->aborted) break;
      usleep(50);
    }
    if (c->rank == 0) unlink(c->path.c_str());
    return c->aborted ? 3 : 0;
  });
  return kInProgress;
}
FAKE int ncclCommGetAsyncError(Comm* c, int* state) {
  *state = c->state;
  if (*state == 0) *state = fake::planned("ncclAsync");
  return 0;
}
FAKE int ncclCommFinalize(Comm* c) {
  MAYBE_FAIL(ncclCommFinalize);
  c->start([c] {
    while (c->refs > 0) usleep(100);
    return c->meet() ? 0 : 3;
  });
  return kInProgress;
}
FAKE int ncclCommDestroy(Comm* c) {
  end(c);
  return 0;
}
FAKE int ncclCommAbort(Comm* c) {
  c->aborted = true;
  fake::stick(-c->stuck.exchange(0));
  end(c);
  return 0;
}
FAKE int ncclAllReduce(const void* x, void* y, size_t n, int type, int op, Comm* c, void* s) {
  return collective("ncclAllReduce", Kind::AllReduce, x, y, n, type, op, 0, c, s);
}
FAKE int ncclAllGather(const void* x, void* y, size_t n, int type, Comm* c, void* s) {
  return collective("ncclAllGather", Kind::AllGather, x, y, n, type, 0, 0, c, s);
}
FAKE int ncclReduceScatter(const void* x, void* y, size_t n, int type, int op, Comm* c, void* s) {
  return collective("ncclReduceScatter", Kind::ReduceScatter, x, y, n, type, op, 0, c, s);
}
FAKE int ncclBroadcast(const void* x, void* y, size_t n, int type, int root, Comm* c, void* s) {
  return collective("ncclBroadcast", Kind::Broadcast, x, y, n, type, 0, root, c, s);
}
