#include <cstdlib>
#include <cstring>

#include "completer.h"
#include "dynlib.h"
#include "state.h"

namespace lowrank {

/** Fills a table of functions; the first missing one is named. */
static bool fillDriver(void* os, Driver* api, std::string* missing) {
#define X(member, symbol, params)                                              \
  api->member = reinterpret_cast<decltype(api->member)>(findSymbol(os, #symbol)); \
  if (!api->member) {                                                          \
    *missing = #symbol;                                                        \
    return false;                                                              \
  }
  LOWRANK_CUDA_REQUIRED(X)
#undef X
#define X(member, symbol, params) api->member = reinterpret_cast<decltype(api->member)>(findSymbol(os, #symbol));
  LOWRANK_CUDA_OPTIONAL(X)
#undef X
  return true;
}

static Napi::Object refuse(Napi::Env env, const char* code, const std::string& reason) {
  Napi::Object result = Napi::Object::New(env);
  result.Set("ok", false);
  result.Set("code", code);
  result.Set("reason", reason);
  return result;
}

/** loadDriver(paths): opens the first library that works. Never throws for what a machine lacks: it says why. */
static Napi::Value loadDriver(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const char* op = "cuda.loadDriver";
  if (!info[0].IsArray()) raise(env, op, "LOWRANK_BAD_ARGUMENT", "paths must be an array of strings");
  Napi::Array paths = info[0].As<Napi::Array>();
  std::string tried;
  void* os = nullptr;
  std::string path;
  for (uint32_t i = 0; i < paths.Length() && !os; i++) {
    Napi::Value value = paths.Get(i);
    if (!value.IsString()) raise(env, op, "LOWRANK_BAD_ARGUMENT", "paths must be an array of strings");
    path = value.As<Napi::String>().Utf8Value();
    std::string why;
    os = openLibrary(path, &why);
    if (!os) tried += (tried.empty() ? "" : "; ") + why;
  }
  if (!os) return refuse(env, "no-driver", "no NVIDIA driver library was found (" + tried + ")");

  auto library = std::make_unique<Library>();
  library->os = os;
  std::string missing;
  if (!fillDriver(os, &library->api, &missing))
    return refuse(env, "old-driver", path + " has no " + missing + ": the NVIDIA driver is too old, CUDA 12.0 or later is needed");
  library->path = libraryFile(reinterpret_cast<void*>(library->api.init), path);
  const Driver& api = library->api;
  CUresult r = api.init(0);
  if (r == CUDA_ERROR_NO_DEVICE) return refuse(env, "no-device", "the NVIDIA driver sees no GPU (CUDA_ERROR_NO_DEVICE)");
  if (r != CUDA_SUCCESS) return refuse(env, "init-failed", "the NVIDIA driver did not start: cuInit gave " + errorName(api, r));
  int version = 0;
  r = api.driverGetVersion(&version);
  if (r != CUDA_SUCCESS) return refuse(env, "init-failed", "cuDriverGetVersion gave " + errorName(api, r));
  if (version < 12000)
    return refuse(env, "old-driver",
                  "the NVIDIA driver supports CUDA " + std::to_string(version / 1000) + "." +
                      std::to_string(version % 1000 / 10) + ", 12.0 or later is needed");
  int count = 0;
  r = api.deviceGetCount(&count);
  if (r != CUDA_SUCCESS) return refuse(env, "init-failed", "cuDeviceGetCount gave " + errorName(api, r));
  if (count == 0) return refuse(env, "no-device", "the NVIDIA driver sees no GPU");
  library->api.version = version;
  library->api.deviceCount = count;

  Library* raw = library.release();
  Napi::Object result = Napi::Object::New(env);
  result.Set("ok", true);
  result.Set("driver", stateOf(env).handles.add(raw));
  result.Set("path", raw->path);
  result.Set("version", version);
  result.Set("deviceCount", count);
  return result;
}

static Library* libraryArg(const Napi::CallbackInfo& info, const char* op) {
  return handleArg<Library>(info, 0, op, "driver", Kind::Library);
}

static void okLibrary(Napi::Env env, Library* library, const char* op, CUresult r) {
  if (r != CUDA_SUCCESS) raise(env, op, errorName(library->api, r), errorName(library->api, r));
}

/** deviceInfo(driver, ordinal) */
static Napi::Value deviceInfo(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const char* op = "cuda.deviceInfo";
  Library* library = libraryArg(info, op);
  const Driver& api = library->api;
  const int ordinal = static_cast<int>(integerArg(info, 1, op, "device", 0, api.deviceCount - 1));
  CUdevice device = 0;
  okLibrary(env, library, op, api.deviceGet(&device, ordinal));
  char name[256] = {};
  okLibrary(env, library, op, api.deviceGetName(name, sizeof name - 1, device));
  size_t memory = 0;
  okLibrary(env, library, op, api.deviceTotalMem(&memory, device));
  Napi::Object result = Napi::Object::New(env);
  result.Set("name", std::string(name));
  result.Set("ordinal", ordinal);
  result.Set("memoryBytes", static_cast<double>(memory));
  static constexpr struct {
    const char* key;
    int attribute;
  } attributes[] = {
      {"multiprocessors", CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT},
      {"computeMajor", CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR},
      {"computeMinor", CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR},
      {"l2Bytes", CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE},
      {"sharedBytes", CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN},
      {"clockKHz", CU_DEVICE_ATTRIBUTE_CLOCK_RATE},
      {"memoryClockKHz", CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE},
      {"memoryBusBits", CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH},
      {"pciBus", CU_DEVICE_ATTRIBUTE_PCI_BUS_ID},
      {"pciDevice", CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID},
  };
  for (const auto& a : attributes) {
    int value = 0;
    if (api.deviceGetAttribute(&value, a.attribute, device) == CUDA_SUCCESS) result.Set(a.key, value);
    else result.Set(a.key, 0);
  }
  return result;
}

/** openDevice(driver, ordinal): retains the primary context. */
static Napi::Value openDevice(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const char* op = "cuda.openDevice";
  Library* library = libraryArg(info, op);
  const Driver& api = library->api;
  const int ordinal = static_cast<int>(integerArg(info, 1, op, "device", 0, api.deviceCount - 1));
  auto device = std::make_unique<Device>();
  device->library = library;
  device->ordinal = ordinal;
  okLibrary(env, library, op, api.deviceGet(&device->ordinalDevice, ordinal));
  const CUresult r = api.primaryCtxRetain(&device->context, device->ordinalDevice);
  if (r != CUDA_SUCCESS)
    raise(env, op, errorName(api, r), errorName(api, r) + ": the context of device " + std::to_string(ordinal) + " could not be made");
  try {
    ok(env, device.get(), op, api.ctxSetCurrent(device->context));
    api.deviceGetAttribute(&device->smemOptin, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, device->ordinalDevice);
    const char* sync = std::getenv("LOWRANK_CUDA_SYNC");
    int major = 0;
    api.deviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device->ordinalDevice);
    const char* overlap = std::getenv("LOWRANK_CUDA_OVERLAP");
    device->overlaps = major >= 9 && !(overlap && std::strcmp(overlap, "0") == 0);
    device->syncEachLaunch = sync && *sync && std::strcmp(sync, "0") != 0;
    device->completer = std::make_unique<Completer>(env, device.get());
  } catch (...) {
    api.primaryCtxRelease(device->ordinalDevice);
    throw;
  }
  return Napi::Number::New(env, stateOf(env).handles.add(device.release()));
}

static Device* deviceArg(const Napi::CallbackInfo& info, const char* op) {
  return handleArg<Device>(info, 0, op, "device", Kind::Device);
}

/** closeDevice(device): frees all that is left; gives how much that was. Works on a lost device too. */
static Napi::Value closeDevice(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Device* device = deviceArg(info, "cuda.closeDevice");
  State& state = stateOf(env);
  int memories = 0;
  state.handles.each([&](Object* o) { memories += o->device == device && o->kind == Kind::Memory; });
  Napi::Object result = Napi::Object::New(env);
  result.Set("memories", memories);
  result.Set("bytes", static_cast<double>(device->deviceBytes));
  destroyDevice(state, device, &env);
  return result;
}

/** deviceStatus(device): bytes by our count and by the driver's, and the objects alive. */
static Napi::Value deviceStatus(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const char* op = "cuda.deviceStatus";
  Device* device = deviceArg(info, op);
  enter(env, device, op);
  size_t free = 0, total = 0;
  ok(env, device, op, device->cu().memGetInfo(&free, &total));
  int objects = 0;
  stateOf(env).handles.each([&](Object* o) { objects += o->device == device && o != device; });
  Napi::Object result = Napi::Object::New(env);
  result.Set("deviceBytes", static_cast<double>(device->deviceBytes));
  result.Set("hostBytes", static_cast<double>(device->hostBytes));
  result.Set("freeBytes", static_cast<double>(free));
  result.Set("totalBytes", static_cast<double>(total));
  result.Set("objects", objects);
  result.Set("pending", static_cast<double>(device->completer->pending()));
  return result;
}

/** streamCreate(device) */
static Napi::Value streamCreate(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const char* op = "cuda.streamCreate";
  Device* device = deviceArg(info, op);
  enter(env, device, op);
  auto stream = std::make_unique<Stream>(device);
  ok(env, device, op, device->cu().streamCreate(&stream->stream, CU_STREAM_NON_BLOCKING, 0));
  void* marker = nullptr;
  if (device->cu().streamWriteValue32 &&
      device->cu().memHostAlloc(&marker, 64, CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP) == CUDA_SUCCESS) {
    stream->marker = static_cast<volatile uint32_t*>(marker);
    stream->marker[0] = stream->marker[1] = 0;
  }
  return Napi::Number::New(env, stateOf(env).handles.add(stream.release()));
}

/** synchronize(stream): a promise of all that was enqueued on it. */
static Napi::Value synchronize(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const char* op = "cuda.synchronize";
  Stream* stream = handleArg<Stream>(info, 0, op, "stream", Kind::Stream);
  Device* device = stream->device;
  enter(env, device, op);
  if (stream->capturing) raise(env, op, "LOWRANK_CAPTURING", "the stream is being recorded");
  checkGroups(env, device, op);
  auto job = std::make_unique<Job>(env);
  job->op = op;
  job->event = takeEvent(env, device, op);
  const CUresult r = device->cu().eventRecord(job->event, stream->stream);
  if (r != CUDA_SUCCESS) {
    device->eventPool.push_back(job->event);
    raiseCuda(env, device, op, r);
  }
  Napi::Promise promise = job->deferred.Promise();
  device->completer->submit(env, std::move(job));
  return promise;
}

/** eventCreate(device, timing) */
static Napi::Value eventCreate(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const char* op = "cuda.eventCreate";
  Device* device = deviceArg(info, op);
  enter(env, device, op);
  auto event = std::make_unique<Event>(device);
  event->timing = info[1].ToBoolean();
  ok(env, device, op, device->cu().eventCreate(&event->event, event->timing ? CU_EVENT_DEFAULT : CU_EVENT_DISABLE_TIMING));
  return Napi::Number::New(env, stateOf(env).handles.add(event.release()));
}

/** eventElapsed(start, end): milliseconds between two recorded timing events; undefined while the second has not passed. */
static Napi::Value eventElapsed(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const char* op = "cuda.eventElapsed";
  Event* start = handleArg<Event>(info, 0, op, "start", Kind::Event);
  Event* end = handleArg<Event>(info, 1, op, "end", Kind::Event);
  if (start->device != end->device) raise(env, op, "LOWRANK_BAD_HANDLE", "the events belong to two devices");
  if (!start->timing || !end->timing || !start->recorded || !end->recorded)
    raise(env, op, "LOWRANK_BAD_ARGUMENT", "both events must be timing events that were recorded");
  enter(env, start->device, op);
  float milliseconds = 0;
  const CUresult r = start->device->cu().eventElapsedTime(&milliseconds, start->event, end->event);
  if (r == CUDA_ERROR_NOT_READY) return env.Undefined();
  ok(env, start->device, op, r);
  return Napi::Number::New(env, milliseconds);
}

/** release(handle): frees a stream, event, memory, host memory, module, graph or plan. A second time is an error. */
static Napi::Value release(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const char* op = "cuda.release";
  const double id = numberArg(info, 0, op, "handle");
  State& state = stateOf(env);
  std::string why;
  static constexpr Kind kinds[] = {Kind::Stream, Kind::Event, Kind::Memory, Kind::HostMemory, Kind::Graph, Kind::Plan};
  for (Kind kind : kinds) {
    Object* object = state.handles.find(id, kind, &why);
    if (!object) continue;
    Device* device = object->device;
    device->cu().ctxSetCurrent(device->context);
    if (kind == Kind::Stream && static_cast<Stream*>(object)->capturing)
      raise(env, op, "LOWRANK_CAPTURING", "the stream is being recorded");
    destroyObject(state, object);
    return env.Undefined();
  }
  raise(env, op, "LOWRANK_BAD_HANDLE", "the handle is " + why + ", of a kind that can be released was expected");
}

void exportDevice(Napi::Env env, Napi::Object exports) {
  exports.Set("loadDriver", Napi::Function::New(env, loadDriver, "loadDriver"));
  exports.Set("deviceInfo", Napi::Function::New(env, deviceInfo, "deviceInfo"));
  exports.Set("openDevice", Napi::Function::New(env, openDevice, "openDevice"));
  exports.Set("closeDevice", Napi::Function::New(env, closeDevice, "closeDevice"));
  exports.Set("deviceStatus", Napi::Function::New(env, deviceStatus, "deviceStatus"));
  exports.Set("streamCreate", Napi::Function::New(env, streamCreate, "streamCreate"));
  exports.Set("synchronize", Napi::Function::New(env, synchronize, "synchronize"));
  exports.Set("eventCreate", Napi::Function::New(env, eventCreate, "eventCreate"));
  exports.Set("eventElapsed", Napi::Function::New(env, eventElapsed, "eventElapsed"));
  exports.Set("release", Napi::Function::New(env, release, "release"));
}

}  // namespace lowrank
