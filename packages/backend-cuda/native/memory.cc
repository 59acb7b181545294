#include <cstring>

#include "completer.h"
#include "state.h"

namespace lowrank {

static constexpr size_t kChunk = size_t{16} << 20;
static constexpr size_t kWholeRead = size_t{64} << 20;
static constexpr double kMaxBytes = 1ull << 46;

static Stream* idleStream(const Napi::CallbackInfo& info, size_t i, const char* op) {
  Stream* stream = handleArg<Stream>(info, i, op, "stream", Kind::Stream);
  enter(info.Env(), stream->device, op);
  if (stream->capturing)
    raise(info.Env(), op, "LOWRANK_CAPTURING", "the stream is being recorded: host transfers cannot be part of a recording");
  return stream;
}

/** allocate(device, bytes) */
static Napi::Value allocate(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const char* op = "cuda.allocate";
  Device* device = handleArg<Device>(info, 0, op, "device", Kind::Device);
  const size_t bytes = static_cast<size_t>(integerArg(info, 1, op, "bytes", 1, kMaxBytes));
  enter(env, device, op);
  auto memory = std::make_unique<Memory>(device);
  const CUresult r = device->cu().memAlloc(&memory->pointer, bytes);
  if (r != CUDA_SUCCESS) {
    size_t free = 0, total = 0;
    std::string facts = "asked for " + std::to_string(bytes) + " bytes";
    if (device->cu().memGetInfo(&free, &total) == CUDA_SUCCESS)
      facts += ", the device has " + std::to_string(free) + " free of " + std::to_string(total);
    facts += ", this process holds " + std::to_string(device->deviceBytes);
    raiseCuda(env, device, op, r, facts);
  }
  memory->bytes = bytes;
  device->deviceBytes += bytes;
  return Napi::Number::New(env, stateOf(env).handles.add(memory.release()));
}

/** hostAllocate(device, bytes): pinned memory as { handle, array }; the array is detached when the handle is released. */
static Napi::Value hostAllocate(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const char* op = "cuda.hostAllocate";
  Device* device = handleArg<Device>(info, 0, op, "device", Kind::Device);
  const size_t bytes = static_cast<size_t>(integerArg(info, 1, op, "bytes", 1, kMaxBytes));
  enter(env, device, op);
  auto host = std::make_unique<HostMemory>(device);
  ok(env, device, op, device->cu().memHostAlloc(&host->pointer, bytes, CU_MEMHOSTALLOC_PORTABLE),
     "asked for " + std::to_string(bytes) + " bytes of pinned host memory");
  host->bytes = bytes;
  device->hostBytes += bytes;
  Napi::ArrayBuffer array = Napi::ArrayBuffer::New(env, host->pointer, bytes, [](Napi::Env, void*) {});
  host->array = Napi::Reference<Napi::ArrayBuffer>::New(array, 1);
  Napi::Object result = Napi::Object::New(env);
  result.Set("handle", stateOf(env).handles.add(host.release()));
  result.Set("array", array);
  return result;
}

/** write(stream, memory, offset, data): the bytes are taken before it returns. */
static Napi::Value write(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const char* op = "cuda.write";
  Stream* stream = idleStream(info, 0, op);
  Device* device = stream->device;
  const Driver& cu = device->cu();
  const Bytes data = bytesArg(info, 3, op, "data");
  const CUdeviceptr to = rangeOf(env, device, op, "memory", numberArg(info, 1, op, "memory"),
                                 numberArg(info, 2, op, "offset"), static_cast<double>(data.size));
  reapWrites(device, false);
  for (size_t at = 0; at < data.size; at += kChunk) {
    const size_t bytes = std::min(kChunk, data.size - at);
    // The device is slower than we are: wait for the oldest transfer rather than pin ever more memory.
    if (device->pendingWrites.size() >= 8 && bytes == kChunk) reapWrites(device, true);
    Staging staging = takeStaging(env, device, op, bytes);
    copyBytes(staging.pointer, data.data + at, bytes);
    CUresult r = cu.memcpyHtoDAsync(to + at, staging.pointer, bytes, stream->stream);
    if (r != CUDA_SUCCESS) {
      giveStaging(device, staging);
      raiseCuda(env, device, op, r);
    }
    CUevent event = takeEvent(env, device, op);
    r = cu.eventRecord(event, stream->stream);
    device->pendingWrites.push_back({event, staging});
    ok(env, device, op, r);
  }
  return env.Undefined();
}

namespace {
/** A piece of a large read: run by the driver, in stream order, after the piece has arrived in the staging block. */
struct Piece {
  void* to;
  const void* from;
  size_t bytes;
};
void LOWRANK_CUDAAPI copyPiece(void* data) {
  Piece* piece = static_cast<Piece*>(data);
  copyBytes(piece->to, piece->from, piece->bytes);
  delete piece;
}
}  // namespace

/** read(stream, memory, offset, bytes): a promise of a Uint8Array with the bytes as they are at this point of the stream. */
static Napi::Value read(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const char* op = "cuda.read";
  Stream* stream = idleStream(info, 0, op);
  Device* device = stream->device;
  const Driver& cu = device->cu();
  const double count = integerArg(info, 3, op, "bytes", 0, kMaxBytes);
  const CUdeviceptr from =
      rangeOf(env, device, op, "memory", numberArg(info, 1, op, "memory"), numberArg(info, 2, op, "offset"), count);
  const size_t bytes = static_cast<size_t>(count);

  auto job = std::make_unique<Job>(env);
  job->op = op;
  Napi::ArrayBuffer array = Napi::ArrayBuffer::New(env, bytes);
  Napi::Uint8Array result = Napi::Uint8Array::New(env, bytes, array, 0);
  job->result = Napi::Reference<Napi::Value>::New(result, 1);
  job->event = takeEvent(env, device, op);
  CUresult r = CUDA_SUCCESS;
  if (bytes > 0) {
    job->staging = takeStaging(env, device, op, std::min(bytes, bytes > kWholeRead ? kChunk : kWholeRead));
    if (bytes <= kWholeRead) {
      job->to = array.Data();
      job->bytes = bytes;
      r = cu.memcpyDtoHAsync(job->staging.pointer, from, bytes, stream->stream);
    } else {
      for (size_t at = 0; at < bytes && r == CUDA_SUCCESS; at += kChunk) {
        const size_t piece = std::min(kChunk, bytes - at);
        r = cu.memcpyDtoHAsync(job->staging.pointer, from + at, piece, stream->stream);
        if (r == CUDA_SUCCESS)
          r = cu.launchHostFunc(stream->stream, copyPiece,
                                new Piece{static_cast<uint8_t*>(array.Data()) + at, job->staging.pointer, piece});
      }
    }
  }
  if (r == CUDA_SUCCESS) r = cu.eventRecord(job->event, stream->stream);
  if (r != CUDA_SUCCESS) {
    cu.streamSynchronize(stream->stream);
    giveStaging(device, job->staging);
    device->eventPool.push_back(job->event);
    raiseCuda(env, device, op, r);
  }
  Napi::Promise promise = job->deferred.Promise();
  device->completer->submit(env, std::move(job));
  return promise;
}

void exportMemory(Napi::Env env, Napi::Object exports) {
  exports.Set("allocate", Napi::Function::New(env, allocate, "allocate"));
  exports.Set("hostAllocate", Napi::Function::New(env, hostAllocate, "hostAllocate"));
  exports.Set("write", Napi::Function::New(env, write, "write"));
  exports.Set("read", Napi::Function::New(env, read, "read"));
}

}  // namespace lowrank
