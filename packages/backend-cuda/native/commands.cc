// A list of commands, packed by JavaScript (src/commands.ts) and run in one call. Records are 8-byte aligned, little endian,
// and begin with { u32 op, u32 bytes }. Every record is checked before it reaches the driver.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "state.h"

namespace lowrank {

namespace {

enum class Op : uint32_t { Launch = 1, Fill, Copy, Matmul, UseStream, Record, Wait, HostToDevice, DeviceToHost, Collective };

class Reader {
 public:
  Reader(Napi::Env env, const char* op, const uint8_t* data, size_t size) : env_(env), op_(op), data_(data), size_(size) {}
  bool done() const { return at_ == size_; }
  size_t at() const { return at_; }
  size_t left() const { return size_ - at_; }
  template <typename T>
  T next() {
    if (size_ - at_ < sizeof(T)) truncated();
    T value;
    std::memcpy(&value, data_ + at_, sizeof(T));
    at_ += sizeof(T);
    return value;
  }
  const uint8_t* skip(size_t bytes) {
    if (size_ - at_ < bytes) truncated();
    const uint8_t* p = data_ + at_;
    at_ += bytes;
    return p;
  }
  [[noreturn]] void truncated() {
    raise(env_, op_, "LOWRANK_BAD_COMMANDS", "the command list ends within a record at byte " + std::to_string(at_));
  }

 private:
  Napi::Env env_;
  const char* op_;
  const uint8_t* data_;
  size_t size_;
  size_t at_ = 0;
};

struct Run {
  Napi::Env env;
  Device* device;
  Stream* stream;
  const Driver& cu;
};

struct Range {
  double memory, offset, bytes;
};

Range nextRange(Reader& r) {
  Range range;
  range.memory = r.next<double>();
  range.offset = r.next<double>();
  range.bytes = r.next<double>();
  return range;
}

CUdeviceptr resolve(const Run& run, const char* op, const char* what, const Range& range) {
  return rangeOf(run.env, run.device, op, what, range.memory, range.offset, range.bytes);
}

/** Relocations: what is patched into a kernel's packed parameters. */
enum class Reloc : uint32_t { Pointer = 0, OptionalPointer = 1, TensorMap = 2 };

void encodeTensorMap(Run& run, const char* op, Reader& r, uint8_t* at) {
  const Range range = nextRange(r);
  const uint32_t dataType = r.next<uint32_t>();
  const uint32_t rank = r.next<uint32_t>();
  const uint32_t swizzle = r.next<uint32_t>();
  const uint32_t l2 = r.next<uint32_t>();
  uint64_t dims[5], strides[5];
  uint32_t box[6], ones[5] = {1, 1, 1, 1, 1};
  for (uint64_t& d : dims) d = static_cast<uint64_t>(r.next<double>());
  for (uint64_t& s : strides) s = static_cast<uint64_t>(r.next<double>());
  for (uint32_t& b : box) b = r.next<uint32_t>();
  if (!run.cu.tensorMapEncodeTiled) raise(run.env, op, "CUDA_ERROR_NOT_SUPPORTED", "this driver makes no tensor maps");
  if (rank < 1 || rank > 5) raise(run.env, op, "LOWRANK_BAD_COMMANDS", "a tensor map has 1 to 5 axes");
  const CUdeviceptr base = resolve(run, op, "tensor map", range);
  CUtensorMap map;
  ok(run.env, run.device, op,
     run.cu.tensorMapEncodeTiled(&map, static_cast<int>(dataType), rank, reinterpret_cast<void*>(base), dims, strides,
                                 box, ones, 0, static_cast<int>(swizzle), static_cast<int>(l2), 0),
     "tensor map");
  std::memcpy(at, &map, sizeof map);
}

void launch(Run& run, Reader& r) {
  const double id = r.next<double>();
  uint32_t n[9];
  for (uint32_t& v : n) v = r.next<uint32_t>();
  const uint32_t argBytes = n[7], relocs = n[8];
  r.next<uint32_t>();
  Function* f = take<Function>(run.env, "cuda.launch", "kernel", id, Kind::Function);
  const char* op = f->name->c_str();
  if (f->device != run.device) raise(run.env, op, "LOWRANK_BAD_HANDLE", "the kernel belongs to another device");
  if (argBytes > 4096) raise(run.env, op, "LOWRANK_BAD_COMMANDS", "parameters take more than 4096 bytes");
  alignas(64) uint8_t args[4096];
  std::memcpy(args, r.skip((argBytes + 7) & ~7u), argBytes);
  bool mapped = false;
  for (uint32_t i = 0; i < relocs; i++) {
    const uint32_t at = r.next<uint32_t>();
    const Reloc kind = static_cast<Reloc>(r.next<uint32_t>());
    if (kind == Reloc::TensorMap) {
      if (at % 64 != 0 || at + sizeof(CUtensorMap) > argBytes)
        raise(run.env, op, "LOWRANK_BAD_COMMANDS", "a tensor map lies outside the parameters");
      encodeTensorMap(run, op, r, args + at);
      mapped = true;
      continue;
    }
    if (kind != Reloc::Pointer && kind != Reloc::OptionalPointer)
      raise(run.env, op, "LOWRANK_BAD_COMMANDS", "unknown kind of pointer parameter");
    if (at % 8 != 0 || at + 8 > argBytes)
      raise(run.env, op, "LOWRANK_BAD_COMMANDS", "a pointer lies outside the parameters");
    const Range range = nextRange(r);
    char what[48];
    std::snprintf(what, sizeof what, "pointer parameter %u", i);
    const CUdeviceptr p =
        kind == Reloc::OptionalPointer && range.memory == 0 ? 0 : resolve(run, op, what, range);
    std::memcpy(args + at, &p, sizeof p);
  }
  const uint64_t threads = uint64_t(n[3]) * n[4] * n[5];
  if (n[0] == 0 || n[1] == 0 || n[2] == 0 || n[0] > 0x7fffffffu || n[1] > 65535 || n[2] > 65535 || n[4] > 1024 ||
      n[5] > 64 || threads == 0 || threads > static_cast<uint64_t>(f->maxThreads))
    raise(run.env, op, "LOWRANK_BAD_COMMANDS",
          "a launch of " + std::to_string(n[0]) + "×" + std::to_string(n[1]) + "×" + std::to_string(n[2]) + " blocks of " +
              std::to_string(n[3]) + "×" + std::to_string(n[4]) + "×" + std::to_string(n[5]) +
              " threads is beyond the limits (" + std::to_string(f->maxThreads) + " threads here)");
  const int shared = static_cast<int>(n[6]);
  if (shared > f->dynamicShared) {
    if (shared < 0 || shared + f->staticShared > run.device->smemOptin)
      raise(run.env, op, "LOWRANK_BAD_COMMANDS",
            std::to_string(n[6]) + " bytes of shared memory asked for, the device has " +
                std::to_string(run.device->smemOptin) + " a block");
    ok(run.env, run.device, op,
       run.cu.funcSetAttribute(f->function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, shared));
    f->dynamicShared = shared;
  }
  size_t argSize = argBytes;
  void* extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, args, CU_LAUNCH_PARAM_BUFFER_SIZE, &argSize, CU_LAUNCH_PARAM_END};
  // Parameters aligned to 64 bytes do not begin where a packed buffer is copied to: these are given one by one.
  // What the command leaves out is read as zeros.
  static uint8_t absent[4096];
  void* params[64];
  if (mapped) {
    std::fill(std::begin(params), std::end(params), static_cast<void*>(absent));
    size_t count = 0, first = 0, offset = 0, bytes = 0;
    // As many parameters as the packed bytes hold: asking for one more is an error of the driver, which a sanitizer would report.
    while (count < 64 && offset - first + bytes < argBytes && run.cu.funcGetParamInfo &&
           run.cu.funcGetParamInfo(f->function, count, &offset, &bytes) == CUDA_SUCCESS) {
      if (count == 0) first = offset;
      if (offset - first + bytes > argBytes) raise(run.env, op, "LOWRANK_BAD_COMMANDS", "the parameters are too short");
      params[count++] = args + (offset - first);
    }
    if (count == 0) raise(run.env, op, "CUDA_ERROR_NOT_SUPPORTED", "this driver does not tell the parameters of a kernel");
  }
  void** listed = mapped ? params : nullptr;
  void** packed = mapped || argBytes == 0 ? nullptr : extra;
  CUresult result;
  if (run.device->overlaps && !run.stream->joined && run.cu.launchKernelEx) {
    // Every kernel of ours begins with `afterPrevious`, so it may be put in place while the one before it ends.
    CUlaunchAttribute attribute{};
    attribute.id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
    attribute.value.flag = 1;
    const CUlaunchConfig config{n[0], n[1], n[2], n[3], n[4], n[5], n[6], run.stream->stream, &attribute, 1};
    result = run.cu.launchKernelEx(&config, f->function, listed, packed);
  } else {
    result = run.cu.launchKernel(f->function, n[0], n[1], n[2], n[3], n[4], n[5], n[6], run.stream->stream, listed, packed);
  }
  run.stream->joined = false;
  noteLaunch(run.device, run.stream, f->name);
  ok(run.env, run.device, op, result);
  if (run.device->syncEachLaunch && !run.stream->capturing)
    ok(run.env, run.device, op, run.cu.streamSynchronize(run.stream->stream));
}

void matmul(Run& run, Reader& r) {
  Plan* plan = take<Plan>(run.env, "cuda.matmul", "plan", r.next<double>(), Kind::Plan);
  const char* op = plan->name->c_str();
  if (plan->device != run.device) raise(run.env, op, "LOWRANK_BAD_HANDLE", "the plan belongs to another device");
  const float alpha = r.next<float>(), beta = r.next<float>();
  double ids[6], offsets[6];
  for (int i = 0; i < 6; i++) {
    ids[i] = r.next<double>();
    offsets[i] = r.next<double>();
  }
  const Range workspace = nextRange(r);
  const LtHeuristic& h = plan->algos[plan->chosen];
  const CUdeviceptr a = resolve(run, op, "A", {ids[0], offsets[0], plan->bytesA});
  const CUdeviceptr b = resolve(run, op, "B", {ids[1], offsets[1], plan->bytesB});
  const CUdeviceptr d = resolve(run, op, "D", {ids[2], offsets[2], plan->bytesD});
  if (plan->bias) {
    const CUdeviceptr bias = resolve(run, op, "bias", {ids[3], offsets[3], plan->bytesBias});
    run.device->lt->descSet(plan->desc, LT_DESC_BIAS_POINTER, &bias, sizeof bias);
  }
  if (plan->scaled) {
    // The operands are swapped for the library, which counts columns first.
    const CUdeviceptr scaleA = resolve(run, op, "scale of A", {ids[4], offsets[4], plan->bytesScaleA});
    const CUdeviceptr scaleB = resolve(run, op, "scale of B", {ids[5], offsets[5], plan->bytesScaleB});
    run.device->lt->descSet(plan->desc, LT_DESC_A_SCALE_POINTER, &scaleB, sizeof scaleB);
    run.device->lt->descSet(plan->desc, LT_DESC_B_SCALE_POINTER, &scaleA, sizeof scaleA);
  }
  CUdeviceptr space = 0;
  if (h.workspaceSize > 0) {
    if (workspace.bytes < static_cast<double>(h.workspaceSize))
      raise(run.env, op, "LOWRANK_OUT_OF_BOUNDS",
            "the algorithm needs " + std::to_string(h.workspaceSize) + " bytes of workspace");
    space = resolve(run, op, "workspace", workspace);
  }
  const cublasStatus status = run.device->lt->matmul(
      run.device->ltHandle, plan->desc, &alpha, reinterpret_cast<const void*>(b), plan->b,
      reinterpret_cast<const void*>(a), plan->a, &beta, reinterpret_cast<const void*>(d), plan->d,
      reinterpret_cast<void*>(d), plan->d, &h.algo, reinterpret_cast<void*>(space), h.workspaceSize, run.stream->stream);
  noteLaunch(run.device, run.stream, plan->name);
  if (status != 0) raise(run.env, op, cublasStatusName(status), std::string("cuBLASLt refused: ") + cublasStatusName(status));
  if (run.device->syncEachLaunch && !run.stream->capturing)
    ok(run.env, run.device, op, run.cu.streamSynchronize(run.stream->stream));
}

void fill(Run& run, Reader& r) {
  const char* op = "cuda.fill";
  const Range range = nextRange(r);
  const uint32_t value = r.next<uint32_t>();
  const uint32_t width = r.next<uint32_t>();
  const CUdeviceptr at = resolve(run, op, "memory", range);
  const size_t bytes = static_cast<size_t>(range.bytes);
  if ((width != 1 && width != 2 && width != 4) || bytes % width != 0 || at % width != 0)
    raise(run.env, op, "LOWRANK_BAD_COMMANDS", "the range is no whole number of aligned elements");
  if (bytes == 0) return;
  CUresult result;
  if (width == 1) result = run.cu.memsetD8Async(at, static_cast<unsigned char>(value), bytes, run.stream->stream);
  else if (width == 2)
    result = run.cu.memsetD16Async(at, static_cast<unsigned short>(value), bytes / 2, run.stream->stream);
  else result = run.cu.memsetD32Async(at, value, bytes / 4, run.stream->stream);
  ok(run.env, run.device, op, result);
}

void copy(Run& run, Reader& r) {
  const char* op = "cuda.copy";
  Range from, to;
  to.memory = r.next<double>();
  to.offset = r.next<double>();
  from.memory = r.next<double>();
  from.offset = r.next<double>();
  from.bytes = to.bytes = r.next<double>();
  const CUdeviceptr source = resolve(run, op, "source", from), target = resolve(run, op, "target", to);
  if (to.bytes > 0)
    ok(run.env, run.device, op,
       run.cu.memcpyDtoDAsync(target, source, static_cast<size_t>(to.bytes), run.stream->stream));
}

/** Between pinned host memory and the device, either way. */
void hostCopy(Run& run, Reader& r, bool toDevice) {
  const char* op = toDevice ? "cuda.hostToDevice" : "cuda.deviceToHost";
  const Range device = nextRange(r);
  const double id = r.next<double>(), offset = r.next<double>();
  HostMemory* host = take<HostMemory>(run.env, op, "host memory", id, Kind::HostMemory);
  const CUdeviceptr at = resolve(run, op, "memory", device);
  if (!(offset >= 0) || offset != std::floor(offset) || offset + device.bytes > static_cast<double>(host->bytes))
    raise(run.env, op, "LOWRANK_OUT_OF_BOUNDS", "the range reaches outside the host memory");
  const size_t bytes = static_cast<size_t>(device.bytes);
  if (bytes == 0) return;
  uint8_t* p = static_cast<uint8_t*>(host->pointer) + static_cast<size_t>(offset);
  ok(run.env, run.device, op,
     toDevice ? run.cu.memcpyHtoDAsync(at, p, bytes, run.stream->stream)
              : run.cu.memcpyDtoHAsync(p, at, bytes, run.stream->stream));
}

void collective(Run& run, Reader& r) {
  CollectiveCommand c;
  c.comm = r.next<double>();
  for (uint32_t* v : {&c.kind, &c.type, &c.op, &c.root}) *v = r.next<uint32_t>();
  for (double* v : {&c.count, &c.from, &c.fromOffset, &c.to, &c.toOffset}) *v = r.next<double>();
  runCollective(run.env, run.device, run.stream, c);
  if (run.device->syncEachLaunch && !run.stream->capturing)
    ok(run.env, run.device, "cuda.submit", run.cu.streamSynchronize(run.stream->stream));
}

/** submit(stream, list): runs a Uint8Array of records in order. What stands before a faulty record has run. */
Napi::Value submit(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const char* op = "cuda.submit";
  Stream* stream = handleArg<Stream>(info, 0, op, "stream", Kind::Stream);
  const Bytes list = bytesArg(info, 1, op, "commands");
  Run run{env, stream->device, stream, stream->device->cu()};
  enter(env, run.device, op);
  Reader r(env, op, list.data, list.size);
  while (!r.done()) {
    const size_t start = r.at();
    const Op kind = static_cast<Op>(r.next<uint32_t>());
    const uint32_t bytes = r.next<uint32_t>();
    if (bytes < 8 || bytes % 8 != 0 || bytes > list.size - start)
      raise(env, op, "LOWRANK_BAD_COMMANDS", "a record at byte " + std::to_string(start) + " has an impossible length");
    Reader body(env, op, list.data + start + 8, bytes - 8);
    r.skip(bytes - 8);
    switch (kind) {
      case Op::Launch: launch(run, body); break;
      case Op::Fill: fill(run, body); break;
      case Op::Copy: copy(run, body); break;
      case Op::Matmul: matmul(run, body); break;
      case Op::UseStream: {
        Stream* next = take<Stream>(env, op, "stream", body.next<double>(), Kind::Stream);
        if (next->device != run.device) raise(env, op, "LOWRANK_BAD_HANDLE", "the stream belongs to another device");
        run.stream = next;
        break;
      }
      case Op::Record: {
        Event* event = take<Event>(env, op, "event", body.next<double>(), Kind::Event);
        if (event->device != run.device) raise(env, op, "LOWRANK_BAD_HANDLE", "the event belongs to another device");
        ok(env, run.device, op, run.cu.eventRecord(event->event, run.stream->stream));
        event->recorded = true;
        break;
      }
      case Op::Wait: {
        Event* event = take<Event>(env, op, "event", body.next<double>(), Kind::Event);
        if (event->device != run.device) raise(env, op, "LOWRANK_BAD_HANDLE", "the event belongs to another device");
        ok(env, run.device, op, run.cu.streamWaitEvent(run.stream->stream, event->event, 0));
        run.stream->joined = true;
        break;
      }
      case Op::HostToDevice: hostCopy(run, body, true); break;
      case Op::DeviceToHost: hostCopy(run, body, false); break;
      case Op::Collective: collective(run, body); break;
      default:
        raise(env, op, "LOWRANK_BAD_COMMANDS", "an unknown record at byte " + std::to_string(start));
    }
  }
  return env.Undefined();
}

/** moduleLoad(device, image, name): loads a fatbin; the image is copied first, so that it ends in a zero. */
Napi::Value moduleLoad(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const char* op = "cuda.moduleLoad";
  Device* device = handleArg<Device>(info, 0, op, "device", Kind::Device);
  const Bytes image = bytesArg(info, 1, op, "image");
  if (image.size < 16) raise(env, op, "LOWRANK_BAD_ARGUMENT", "the image is no fatbin");
  uint32_t magic;
  std::memcpy(&magic, image.data, 4);
  if (magic != 0xba55ed50u && magic != 0x464c457fu)
    raise(env, op, "LOWRANK_BAD_ARGUMENT", "the image is neither a fatbin nor a cubin");
  const std::string name = stringArg(info, 2, op, "name");
  enter(env, device, op);
  std::vector<uint64_t> copy((image.size + 15) / 8, 0);
  std::memcpy(copy.data(), image.data, image.size);
  auto module = std::make_unique<Module>(device);
  module->name = name;
  const CUresult r = device->cu().moduleLoadData(&module->module, copy.data());
  if (r == CUDA_ERROR_NO_BINARY_FOR_GPU)
    raiseCuda(env, device, op, r, name + " holds no code for this GPU: compute capability 8.0 or later is needed");
  ok(env, device, op, r, name);
  return Napi::Number::New(env, stateOf(env).handles.add(module.release()));
}

/** functionGet(module, name): { handle, registers, localBytes, sharedBytes, maxThreads } */
Napi::Value functionGet(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const char* op = "cuda.functionGet";
  Module* module = handleArg<Module>(info, 0, op, "module", Kind::Module);
  const std::string name = stringArg(info, 1, op, "name");
  Device* device = module->device;
  enter(env, device, op);
  auto f = std::make_unique<Function>(device);
  const CUresult r = device->cu().moduleGetFunction(&f->function, module->module, name.c_str());
  if (r == CUDA_ERROR_NOT_FOUND) raise(env, op, errorName(device->cu(), r), "no kernel " + name + " in " + module->name);
  ok(env, device, op, r, name);
  f->module = module;
  f->name = stateOf(env).intern(name);
  const struct {
    int attribute;
    int* value;
  } attributes[] = {{CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, &f->maxThreads},
                    {CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, &f->staticShared},
                    {CU_FUNC_ATTRIBUTE_NUM_REGS, &f->registers},
                    {CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES, &f->localBytes}};
  for (const auto& a : attributes) ok(env, device, op, device->cu().funcGetAttribute(a.value, a.attribute, f->function), name);
  f->dynamicShared = std::max(0, 48 * 1024 - f->staticShared);
  Napi::Object result = Napi::Object::New(env);
  result.Set("registers", f->registers);
  result.Set("localBytes", f->localBytes);
  result.Set("sharedBytes", f->staticShared);
  result.Set("maxThreads", f->maxThreads);
  result.Set("handle", stateOf(env).handles.add(f.release()));
  return result;
}

}  // namespace

void exportCommands(Napi::Env env, Napi::Object exports) {
  exports.Set("submit", Napi::Function::New(env, submit, "submit"));
  exports.Set("moduleLoad", Napi::Function::New(env, moduleLoad, "moduleLoad"));
  exports.Set("functionGet", Napi::Function::New(env, functionGet, "functionGet"));
}

}  // namespace lowrank
