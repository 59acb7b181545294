#include "emulate.h"

#include <sys/mman.h>
#include <ucontext.h>

#include <vector>

Dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emu {

unsigned char* dynamicShared = nullptr;

namespace {

enum class Wait : uint8_t { None, Block, Warp, Done };
constexpr size_t kStack = 256 * 1024;

struct Fiber {
  void* sp = nullptr;
  ucontext_t context;
  unsigned char* stack = nullptr;
  Dim3 index{};
  unsigned linear = 0;
  Wait wait = Wait::None;
  bool started = false;
  unsigned parity = 0;
};
struct Warp { unsigned arrived = 0, live = 0, mask = 0; alignas(16) unsigned char slots[2][32 * kSlot]; };

std::vector<Fiber*> fibers;
std::vector<Warp> warps;
unsigned blockArrived = 0, blockLive = 0;
int orAccumulated = 0, orResult = 0;
Fiber* current = nullptr;
const Kernel* running = nullptr;
const unsigned char* parameters = nullptr;

#if defined(__x86_64__)
// Saves the callee-saved registers and the stack pointer, and takes up those of another fiber.
extern "C" void emuSwitch(void** from, void* to);
asm(R"(
.text
.globl emuSwitch
.type emuSwitch,@function
emuSwitch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emuSwitch,.-emuSwitch
)");
void* mainSp;
void body();
void toFiber(Fiber* f) {
  if (!f->started) {
    f->started = true;
    // The stack is entered as after a call: 16-byte aligned plus the return address.
    uint64_t* top = reinterpret_cast<uint64_t*>((reinterpret_cast<uintptr_t>(f->stack) + kStack) & ~uintptr_t(15));
    *--top = 0;
    *--top = reinterpret_cast<uint64_t>(&body);
    for (int i = 0; i < 6; i++) *--top = 0;
    f->sp = top;
  }
  emuSwitch(&mainSp, f->sp);
}
void toMain(Fiber* f) { emuSwitch(&f->sp, mainSp); }
#else
ucontext_t mainContext;
void body();
void toFiber(Fiber* f) {
  if (!f->started) {
    f->started = true;
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = kStack;
    f->context.uc_link = nullptr;
    makecontext(&f->context, body, 0);
  }
  swapcontext(&mainContext, &f->context);
}
void toMain(Fiber* f) { swapcontext(&f->context, &mainContext); }
#endif

void releaseWarp(unsigned w) {
  warps[w].arrived = 0;
  for (unsigned i = w * 32; i < fibers.size() && i < w * 32 + 32; i++)
    if (i < blockDim.x * blockDim.y * blockDim.z && fibers[i]->wait == Wait::Warp) fibers[i]->wait = Wait::None;
}
void releaseBlock() {
  blockArrived = 0;
  orResult = orAccumulated;
  orAccumulated = 0;
  const unsigned n = blockDim.x * blockDim.y * blockDim.z;
  for (unsigned i = 0; i < n; i++)
    if (fibers[i]->wait == Wait::Block) fibers[i]->wait = Wait::None;
}

void finish(Fiber* f) {
  f->wait = Wait::Done;
  Warp& w = warps[f->linear / 32];
  w.live--;
  w.mask &= ~(1u << (f->linear % 32));
  blockLive--;
  if (w.live && w.arrived == w.live) releaseWarp(f->linear / 32);
  if (blockLive && blockArrived == blockLive) releaseBlock();
}

void body() {
  running->thunk(parameters);
  Fiber* f = current;
  finish(f);
  toMain(f);
  abort();
}

void runBlock() {
  const unsigned n = blockDim.x * blockDim.y * blockDim.z;
  while (fibers.size() < n) {
    Fiber* f = new Fiber();
    f->stack = static_cast<unsigned char*>(mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    fibers.push_back(f);
  }
  warps.resize((n + 31) / 32);
  for (unsigned w = 0; w < warps.size(); w++) {
    warps[w].arrived = 0;
    warps[w].live = std::min(32u, n - w * 32);
    warps[w].mask = warps[w].live == 32 ? 0xffffffffu : (1u << warps[w].live) - 1;
  }
  blockArrived = 0;
  blockLive = n;
  orAccumulated = 0;
  for (unsigned i = 0; i < n; i++) {
    Fiber& f = *fibers[i];
    f.index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y)};
    f.linear = i;
    f.wait = Wait::None;
    f.started = false;
    f.parity = 0;
  }
  unsigned done = 0;
  while (done < n) {
    bool progress = false;
    done = 0;
    for (unsigned i = 0; i < n; i++) {
      Fiber* f = fibers[i];
      if (f->wait == Wait::None) {
        current = f;
        threadIdx = f->index;
        toFiber(f);
        progress = true;
      }
      if (f->wait == Wait::Done) done++;
    }
    if (!progress && done < n) {
      fprintf(stderr, "emulator: %s: threads wait at a barrier that others never reach (block %u,%u,%u)\n", running->name.c_str(), blockIdx.x, blockIdx.y, blockIdx.z);
      abort();
    }
  }
}

}  // namespace

void blockBarrier() { blockOr(0); }
int blockOr(int predicate) {
  Fiber* f = current;
  orAccumulated |= predicate != 0;
  f->wait = Wait::Block;
  if (++blockArrived == blockLive) releaseBlock();
  toMain(f);
  return orResult;
}
unsigned lane() { return current->linear % 32; }
unsigned liveMask() { return warps[current->linear / 32].mask; }
unsigned char* exchange(const void* mine, size_t bytes) {
  Fiber* f = current;
  Warp& w = warps[f->linear / 32];
  unsigned char* slots = w.slots[f->parity];
  f->parity ^= 1;
  memcpy(slots + (f->linear % 32) * kSlot, mine, bytes);
  f->wait = Wait::Warp;
  if (++w.arrived == w.live) releaseWarp(f->linear / 32);
  toMain(f);
  return slots;
}

std::map<std::string, Kernel>& registry() {
  static std::map<std::string, Kernel> kernels;
  return kernels;
}

bool launch(const Kernel& kernel, Dim3 grid, Dim3 block, size_t sharedBytes, const unsigned char* params) {
  running = &kernel;
  parameters = params;
  gridDim = grid;
  blockDim = block;
  std::vector<unsigned char> shared(sharedBytes + 1024);
  dynamicShared = shared.data() + (1024 - reinterpret_cast<uintptr_t>(shared.data()) % 1024) % 1024;
  for (blockIdx.z = 0; blockIdx.z < grid.z; blockIdx.z++)
    for (blockIdx.y = 0; blockIdx.y < grid.y; blockIdx.y++)
      for (blockIdx.x = 0; blockIdx.x < grid.x; blockIdx.x++) {
        // What a block has not written is not there: garbage, as on a device.
        memset(dynamicShared, 0xff, sharedBytes);
        runBlock();
      }
  return true;
}

}  // namespace emu
