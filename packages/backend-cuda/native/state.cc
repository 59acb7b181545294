#include "state.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <system_error>
#include <thread>

#include "comm.h"
#include "completer.h"
#include "dynlib.h"

namespace lowrank {

const char* kindName(Kind kind) {
  switch (kind) {
    case Kind::Library: return "driver";
    case Kind::Device: return "device";
    case Kind::Stream: return "stream";
    case Kind::Event: return "event";
    case Kind::Memory: return "device memory";
    case Kind::HostMemory: return "host memory";
    case Kind::Module: return "module";
    case Kind::Function: return "kernel";
    case Kind::Graph: return "graph";
    case Kind::Plan: return "matmul plan";
    case Kind::Comm: return "communicator";
    case Kind::None: break;
  }
  return "nothing";
}

State& stateOf(Napi::Env env) { return *env.GetInstanceData<State>(); }

Napi::Error makeError(Napi::Env env, const std::string& op, const std::string& code, const std::string& text) {
  Napi::Error error = Napi::Error::New(env, op + ": " + text);
  error.Set("code", Napi::String::New(env, code));
  error.Set("op", Napi::String::New(env, op));
  return error;
}

void raise(Napi::Env env, const std::string& op, const std::string& code, const std::string& text) {
  throw makeError(env, op, code, text);
}

std::string errorName(const Driver& api, CUresult result) {
  const char* name = nullptr;
  if (api.getErrorName && api.getErrorName(result, &name) == CUDA_SUCCESS && name) return name;
  return "CUDA_ERROR_" + std::to_string(result);
}

/** Names of the launches of each stream that the device had not passed when it failed; within a recording, those since its last mark. */
static std::string suspects(State& state, Device* device) {
  std::string text;
  const std::string* last = nullptr;
  int shown = 0;
  const auto add = [&](const std::string* name) {
    if (!name || name == last || shown == 40) return;
    last = name;
    text += (text.empty() ? "" : ", ") + *name;
    shown++;
  };
  state.handles.each([&](Object* object) {
    if (object->kind != Kind::Stream || object->device != device) return;
    Stream* stream = static_cast<Stream*>(object);
    const uint32_t done = stream->marker ? *stream->marker : 0;
    uint32_t from = done;
    if (stream->launched - from > Stream::kRing) from = stream->launched - Stream::kRing;
    std::set<const std::string*> opened;
    for (uint32_t i = from; i != stream->launched; i++) {
      const std::string* name = stream->names[i % Stream::kRing];
      Graph* graph = nullptr;
      state.handles.each([&](Object* o) {
        if (o->kind == Kind::Graph && o->device == device && static_cast<Graph*>(o)->name == name) graph = static_cast<Graph*>(o);
      });
      if (!graph || !stream->marker) {
        add(name);
        continue;
      }
      if (!opened.insert(name).second) continue;
      const size_t begin = stream->marker[1], end = std::min(begin + Stream::kMarkRecorded, graph->names.size());
      std::set<const std::string*> distinct;
      for (size_t k = begin; k < end; k++)
        if (distinct.insert(graph->names[k]).second) add(graph->names[k]);
      text += " (launches " + std::to_string(begin + 1) + " to " + std::to_string(end) + " of " + *name + ")";
    }
  });
  return text;
}

Napi::Error makeCudaError(Napi::Env env, Device* device, const char* op, CUresult result, const std::string& facts) {
  const Driver& api = device->cu();
  const std::string name = errorName(api, result);
  const char* description = nullptr;
  std::string text = name;
  if (api.getErrorString(result, &description) == CUDA_SUCCESS && description) text += std::string(": ") + description;
  if (!facts.empty()) text += ": " + facts;
  if (isSticky(result) && device->lost == 0) {
    device->lost = result;
    const std::string list = device->syncEachLaunch ? op : suspects(stateOf(env), device);
    device->lostDetail = name + (list.empty() ? "" : " after one of: " + list);
    if (device->syncEachLaunch) text += ". The device takes no more work from this process";
    else {
      if (!list.empty()) text += ": the fault lies in one of: " + list;
      text += ". The device takes no more work from this process; with LOWRANK_CUDA_SYNC=1 steps run launch by launch, and the one that fails is named";
    }
  }
  return makeError(env, op, name, text);
}

void raiseCuda(Napi::Env env, Device* device, const char* op, CUresult result, const std::string& facts) {
  throw makeCudaError(env, device, op, result, facts);
}

void enter(Napi::Env env, Device* device, const char* op) {
  if (device->lost != 0)
    raise(env, op, errorName(device->cu(), device->lost), "the device was lost: " + device->lostDetail);
  ok(env, device, op, device->cu().ctxSetCurrent(device->context));
}

// ---- arguments ----

double numberArg(const Napi::CallbackInfo& info, size_t i, const char* op, const char* what) {
  if (i >= info.Length() || !info[i].IsNumber())
    raise(info.Env(), op, "LOWRANK_BAD_ARGUMENT", std::string(what) + " must be a number");
  return info[i].As<Napi::Number>().DoubleValue();
}

void checkInteger(Napi::Env env, const char* op, const char* what, double value, double min, double max) {
  if (!(value >= min && value <= max) || value != std::floor(value)) {
    char text[160];
    std::snprintf(text, sizeof text, "%s must be a whole number from %.0f to %.0f, not %g", what, min, max, value);
    raise(env, op, "LOWRANK_BAD_ARGUMENT", text);
  }
}

double integerArg(const Napi::CallbackInfo& info, size_t i, const char* op, const char* what, double min, double max) {
  const double value = numberArg(info, i, op, what);
  checkInteger(info.Env(), op, what, value, min, max);
  return value;
}

std::string stringArg(const Napi::CallbackInfo& info, size_t i, const char* op, const char* what) {
  if (i >= info.Length() || !info[i].IsString())
    raise(info.Env(), op, "LOWRANK_BAD_ARGUMENT", std::string(what) + " must be a string");
  return info[i].As<Napi::String>().Utf8Value();
}

Bytes bytesArg(const Napi::CallbackInfo& info, size_t i, const char* op, const char* what) {
  if (i >= info.Length() || !info[i].IsTypedArray() ||
      info[i].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array)
    raise(info.Env(), op, "LOWRANK_BAD_ARGUMENT", std::string(what) + " must be a Uint8Array");
  Napi::Uint8Array array = info[i].As<Napi::Uint8Array>();
  return {array.Data(), array.ByteLength()};
}

CUdeviceptr rangeOf(Napi::Env env, Device* device, const char* op, const char* what, double id, double offset,
                    double bytes) {
  Memory* memory = take<Memory>(env, op, what, id, Kind::Memory);
  if (memory->device != device)
    raise(env, op, "LOWRANK_BAD_HANDLE", std::string(what) + " belongs to another device");
  const double size = static_cast<double>(memory->bytes);
  if (!(offset >= 0) || !(bytes >= 0) || offset != std::floor(offset) || bytes != std::floor(bytes) ||
      offset + bytes > size) {
    char text[200];
    std::snprintf(text, sizeof text, "%s reaches outside its memory: %.0f bytes at offset %.0f of %.0f", what, bytes,
                  offset, size);
    raise(env, op, "LOWRANK_OUT_OF_BOUNDS", text);
  }
  return memory->pointer + static_cast<uint64_t>(offset);
}

// ---- pools ----

CUevent takeEvent(Napi::Env env, Device* device, const char* op) {
  if (!device->eventPool.empty()) {
    CUevent event = device->eventPool.back();
    device->eventPool.pop_back();
    return event;
  }
  CUevent event = nullptr;
  ok(env, device, op, device->cu().eventCreate(&event, CU_EVENT_DISABLE_TIMING | CU_EVENT_BLOCKING_SYNC));
  return event;
}

static size_t stagingClass(size_t bytes) {
  size_t size = 4096;
  while (size < bytes) size <<= 1;
  return size;
}

Staging takeStaging(Napi::Env env, Device* device, const char* op, size_t bytes) {
  Staging staging;
  staging.bytes = stagingClass(bytes);
  auto& list = device->stagingFree[staging.bytes];
  if (!list.empty()) {
    staging.pointer = list.back();
    list.pop_back();
    device->stagingCached -= staging.bytes;
    return staging;
  }
  ok(env, device, op, device->cu().memHostAlloc(&staging.pointer, staging.bytes, CU_MEMHOSTALLOC_PORTABLE),
     "asked for " + std::to_string(staging.bytes) + " bytes of pinned host memory");
  device->hostBytes += staging.bytes;
  return staging;
}

void giveStaging(Device* device, Staging staging) {
  constexpr size_t kKeep = size_t{192} << 20;
  if (!staging.pointer) return;
  if (device->stagingCached + staging.bytes > kKeep) {
    device->cu().memFreeHost(staging.pointer);
    device->hostBytes -= staging.bytes;
    return;
  }
  device->stagingFree[staging.bytes].push_back(staging.pointer);
  device->stagingCached += staging.bytes;
}

void copyBytes(void* to, const void* from, size_t bytes) {
  constexpr size_t kShare = size_t{2} << 20;
  const size_t cores = std::max(1u, std::thread::hardware_concurrency());
  const size_t parts = std::min({bytes / kShare, cores, size_t{8}});
  if (parts < 2) {
    std::memcpy(to, from, bytes);
    return;
  }
  // Rounded up twice: parts × share covers all bytes.
  const size_t share = ((bytes + parts - 1) / parts + 4095) / 4096 * 4096;
  const auto part = [=](size_t i) {
    const size_t at = i * share;
    if (at < bytes) std::memcpy(static_cast<uint8_t*>(to) + at, static_cast<const uint8_t*>(from) + at, std::min(share, bytes - at));
  };
  std::vector<std::thread> helpers;
  size_t started = 1;
  try {
    for (; started < parts; started++) helpers.emplace_back(part, started);
  } catch (const std::system_error&) {
    // No more threads: the rest is copied here.
  }
  part(0);
  for (size_t i = started; i < parts; i++) part(i);
  for (std::thread& helper : helpers) helper.join();
}

void reapWrites(Device* device, bool wait) {
  const Driver& cu = device->cu();
  while (!device->pendingWrites.empty()) {
    Device::PendingWrite& first = device->pendingWrites.front();
    const CUresult r = wait ? cu.eventSynchronize(first.event) : cu.eventQuery(first.event);
    if (r == CUDA_ERROR_NOT_READY) return;
    device->eventPool.push_back(first.event);
    giveStaging(device, first.staging);
    device->pendingWrites.pop_front();
    wait = false;
  }
}

void noteLaunch(Device* device, Stream* stream, const std::string* name, bool mark) {
  if (stream->capturing) {
    stream->recorded.push_back(name);
    if (stream->recorded.size() % Stream::kMarkRecorded == 0) noteProgress(device, stream, stream->recorded.size());
    return;
  }
  stream->names[stream->launched % Stream::kRing] = name;
  stream->launched++;
  if (stream->marker && (mark || stream->launched % Stream::kMarkEvery == 0))
    device->cu().streamWriteValue32(stream->stream, reinterpret_cast<CUdeviceptr>(stream->marker), stream->launched, 0);
}

void noteProgress(Device* device, Stream* stream, size_t launches) {
  if (stream->marker)
    device->cu().memsetD32Async(reinterpret_cast<CUdeviceptr>(stream->marker + 1), static_cast<uint32_t>(launches), 1,
                                stream->stream);
}

// ---- ends ----

Plan::~Plan() {
  if (!device || !device->lt) return;
  if (a) device->lt->layoutDestroy(a);
  if (b) device->lt->layoutDestroy(b);
  if (d) device->lt->layoutDestroy(d);
  if (desc) device->lt->descDestroy(desc);
}

Device::Device() : Object(Kind::Device, this) {}
Device::~Device() = default;

void destroyObject(State& state, Object* object) {
  Device* device = object->device;
  const Driver& cu = device->cu();
  switch (object->kind) {
    case Kind::Stream: {
      Stream* s = static_cast<Stream*>(object);
      if (s->stream) cu.streamDestroy(s->stream);
      if (s->marker) cu.memFreeHost(const_cast<uint32_t*>(s->marker));
      break;
    }
    case Kind::Event: cu.eventDestroy(static_cast<Event*>(object)->event); break;
    case Kind::Memory: {
      Memory* m = static_cast<Memory*>(object);
      cu.memFree(m->pointer);
      device->deviceBytes -= m->bytes;
      break;
    }
    case Kind::HostMemory: {
      HostMemory* h = static_cast<HostMemory*>(object);
      if (!state.ending) {
        Napi::Env env = h->array.Env();
        Napi::HandleScope scope(env);
        Napi::ArrayBuffer array = h->array.Value();
        if (!array.IsEmpty()) napi_detach_arraybuffer(env, array);
        h->array.Reset();
      }
      cu.memFreeHost(h->pointer);
      device->hostBytes -= h->bytes;
      break;
    }
    case Kind::Module: cu.moduleUnload(static_cast<Module*>(object)->module); break;
    case Kind::Graph: cu.graphExecDestroy(static_cast<Graph*>(object)->exec); break;
    case Kind::Comm: endComm(static_cast<Comm*>(object)); break;
    default: break;
  }
  state.handles.remove(object);
  delete object;
}

void destroyDevice(State& state, Device* device, const Napi::Env* env) {
  const Driver& cu = device->cu();
  cu.ctxSetCurrent(device->context);
  // First: a collective whose other ranks are gone would never end.
  closeComms(state, device, env);
  if (env && device->lost == 0) cu.ctxSynchronize();
  device->completer->end(env);
  device->completer.reset();
  reapWrites(device, true);
  // Plans before the library handle, graphs before modules and groups, streams and events before the context.
  static constexpr Kind order[] = {Kind::Graph,  Kind::Comm,   Kind::Plan,       Kind::Function, Kind::Event,
                                   Kind::Stream, Kind::Memory, Kind::HostMemory, Kind::Module};
  for (Kind kind : order) {
    std::vector<Object*> objects;
    state.handles.each([&](Object* o) {
      if (o->kind == kind && o->device == device) objects.push_back(o);
    });
    for (Object* o : objects) destroyObject(state, o);
  }
  for (CUevent event : device->eventPool) cu.eventDestroy(event);
  for (auto& [bytes, list] : device->stagingFree)
    for (void* pointer : list) cu.memFreeHost(pointer);
  if (device->ltHandle) device->lt->destroy(device->ltHandle);
  cu.primaryCtxRelease(device->ordinalDevice);
  state.handles.remove(device);
  delete device;
}

}  // namespace lowrank
