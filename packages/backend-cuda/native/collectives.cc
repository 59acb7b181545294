// NCCL: groups of devices, and the collectives of command lists.
#include <cstring>
#include <system_error>

#include "comm.h"
#include "dynlib.h"

namespace lowrank {

namespace {

Napi::Object found(Napi::Env env, const State& state) {
  Napi::Object result = Napi::Object::New(env);
  result.Set("ok", true);
  result.Set("path", state.ncclPath);
  result.Set("version", state.nccl->version);
  return result;
}

/** loadNccl(paths): { ok: true, path, version } or { ok: false, reason }. What was loaded once stays. */
Napi::Value loadNccl(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const char* op = "cuda.loadNccl";
  if (info.Length() < 1 || !info[0].IsArray()) raise(env, op, "LOWRANK_BAD_ARGUMENT", "paths must be an array of strings");
  State& state = stateOf(env);
  if (state.nccl) return found(env, state);
  Napi::Array paths = info[0].As<Napi::Array>();
  std::string reason;
  const auto add = [&](const std::string& why) { reason += (reason.empty() ? "" : "; ") + why; };
  for (uint32_t i = 0; i < paths.Length(); i++) {
    if (!paths.Get(i).IsString()) raise(env, op, "LOWRANK_BAD_ARGUMENT", "paths must be an array of strings");
    const std::string path = paths.Get(i).As<Napi::String>().Utf8Value();
    std::string why;
    void* os = openLibrary(path, &why);
    if (!os) {
      add(why);
      continue;
    }
    auto nccl = std::make_shared<Nccl>();
    std::string missing;
#define X(member, symbol, result, params)                                           \
  nccl->member = reinterpret_cast<decltype(nccl->member)>(findSymbol(os, #symbol)); \
  if (!nccl->member && missing.empty()) missing = #symbol;
    LOWRANK_NCCL_REQUIRED(X)
#undef X
    if (!missing.empty()) {
      add(path + " has no " + missing + ": NCCL 2.14 or later is needed");
      continue;
    }
    if (nccl->getVersion(&nccl->version) != NCCL_SUCCESS) {
      add(path + " does not tell its version");
      continue;
    }
    state.ncclPath = libraryFile(reinterpret_cast<void*>(nccl->getVersion), path);
    state.nccl = std::move(nccl);
    return found(env, state);
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("ok", false);
  result.Set("reason", "NCCL was not found (" + reason + ")");
  return result;
}

const std::shared_ptr<Nccl>& loaded(Napi::Env env, const char* op) {
  State& state = stateOf(env);
  if (!state.nccl) raise(env, op, "LOWRANK_NO_NCCL", "NCCL is not loaded");
  return state.nccl;
}

/** ncclId(): the 128 bytes by which the ranks of a new group find each other. */
Napi::Value ncclId(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const char* op = "cuda.ncclId";
  const std::shared_ptr<Nccl>& nccl = loaded(env, op);
  NcclId id{};
  const ncclResult r = nccl->getUniqueId(&id);
  if (r != NCCL_SUCCESS) {
    CommCore core;
    core.nccl = nccl;
    raise(env, op, "LOWRANK_GROUP_FAILED", core.describe("ncclGetUniqueId", r, nullptr));
  }
  Napi::Uint8Array bytes = Napi::Uint8Array::New(env, sizeof id);
  std::memcpy(bytes.Data(), &id, sizeof id);
  return bytes;
}

/** commJoin(device, rank, size, id, timeoutMs): a promise of the communicator's handle, once all ranks are there. */
Napi::Value commJoin(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const char* op = "cuda.commJoin";
  Device* device = handleArg<Device>(info, 0, op, "device", Kind::Device);
  const int size = static_cast<int>(integerArg(info, 2, op, "size", 1, 1 << 20));
  const int rank = static_cast<int>(integerArg(info, 1, op, "rank", 0, size - 1));
  const Bytes id = bytesArg(info, 3, op, "id");
  const double timeout = integerArg(info, 4, op, "timeout", 1, 2147483647);
  if (id.size != sizeof(NcclId))
    raise(env, op, "LOWRANK_BAD_ARGUMENT", "id must be " + std::to_string(sizeof(NcclId)) + " bytes, not " + std::to_string(id.size));
  const std::shared_ptr<Nccl>& nccl = loaded(env, op);
  enter(env, device, op);
  auto comm = std::make_unique<Comm>(device);
  comm->core = std::make_shared<CommCore>();
  CommCore& core = *comm->core;
  core.nccl = nccl;
  core.cu = device->cu();
  core.context = device->context;
  core.rank = rank;
  core.size = size;
  std::memcpy(&core.id, id.data, sizeof core.id);
  core.timeout = std::chrono::milliseconds(static_cast<int64_t>(timeout));
  core.owner = comm.get();
  // Its references keep the process alive while a promise waits.
  core.tell = Napi::ThreadSafeFunction::New(env, Napi::Function::New(env, [](const Napi::CallbackInfo&) {}), "lowrank group", 0, 1);
  comm->joining = std::make_unique<Napi::Promise::Deferred>(Napi::Promise::Deferred::New(env));
  Napi::Promise promise = comm->joining->Promise();
  try {
    comm->thread = std::thread([shared = comm->core] { shared->work(); });
  } catch (const std::system_error& error) {
    core.tell.Abort();
    raise(env, op, "LOWRANK_GROUP_FAILED", std::string("no thread for the group: ") + error.what());
  }
  stateOf(env).handles.add(comm.release());
  return promise;
}

/** commLeave(comm): a promise; all ranks leave together. The caller waited for the device. Recordings that hold the group's ops are released before. */
Napi::Value commLeave(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const char* op = "cuda.commLeave";
  Comm* comm = handleArg<Comm>(info, 0, op, "group", Kind::Comm);
  if (comm->joining || comm->leaving)
    raise(env, op, "LOWRANK_BAD_ARGUMENT", comm->joining ? "the group has not formed yet" : "the group is being left already");
  size_t held = 0;
  stateOf(env).handles.each([&](Object* o) {
    if (o->kind == Kind::Graph) held += static_cast<Graph*>(o)->comms.count(comm->id);
    if (o->kind == Kind::Stream && static_cast<Stream*>(o)->capturing) held += static_cast<Stream*>(o)->recordedComms.count(comm->id);
  });
  if (held > 0)
    raise(env, op, "LOWRANK_RECORDED", std::to_string(held) + " recordings hold ops of the group. Release them first");
  comm->leaving = std::make_unique<Napi::Promise::Deferred>(Napi::Promise::Deferred::New(env));
  Napi::Promise promise = comm->leaving->Promise();
  CommCore& core = *comm->core;
  core.tell.Ref(env);
  bool done;
  {
    std::lock_guard<std::mutex> lock(core.mutex);
    core.leaving = true;
    done = core.done;
  }
  core.wake.notify_all();
  // A thread that ended before says nothing more.
  if (done) core.notify();
  return promise;
}

[[noreturn]] void raiseFailed(Napi::Env env, const char* op, const std::string& failure) {
  raise(env, op, "LOWRANK_GROUP_FAILED", "the group has failed: " + failure);
}

/** Has the thread know when the device is past what was enqueued. */
void watch(Napi::Env env, Device* device, Stream* stream, CommCore& core, const char* op, std::unique_lock<std::mutex>& lock) {
  for (CUevent event : core.spent) device->eventPool.push_back(event);
  core.spent.clear();
  CUevent event = takeEvent(env, device, op);
  const CUresult r = device->cu().eventRecord(event, stream->stream);
  if (r != CUDA_SUCCESS) {
    device->eventPool.push_back(event);
    raiseCuda(env, device, op, r);
  }
  core.watched.push_back({event, Clock::now()});
  const bool first = core.watched.size() == 1;
  lock.unlock();
  if (first) core.wake.notify_all();
}

const char* const kNames[] = {"allReduce", "allGather", "reduceScatter", "broadcast"};

size_t elementBytes(uint32_t type) {
  switch (type) {
    case NCCL_FLOAT32:
    case NCCL_INT32: return 4;
    case NCCL_FLOAT16:
    case NCCL_BFLOAT16: return 2;
    default: return 0;
  }
}

}  // namespace

void runCollective(Napi::Env env, Device* device, Stream* stream, const CollectiveCommand& c) {
  if (c.kind > 3) raise(env, "cuda.submit", "LOWRANK_BAD_COMMANDS", "unknown collective");
  const char* op = kNames[c.kind];
  Comm* comm = take<Comm>(env, op, "group", c.comm, Kind::Comm);
  CommCore& core = *comm->core;
  if (comm->device != device) raise(env, op, "LOWRANK_BAD_HANDLE", "the group belongs to another device");
  if (comm->joining || comm->leaving)
    raise(env, op, "LOWRANK_BAD_HANDLE", comm->joining ? "the group has not formed yet" : "the group is being left");
  const size_t element = elementBytes(c.type);
  const bool reduces = c.kind == 0 || c.kind == 2;
  if (element == 0) raise(env, op, "LOWRANK_BAD_COMMANDS", "the dtype does not travel");
  if (reduces && c.op != NCCL_SUM && c.op != NCCL_MAX && !(c.op == NCCL_AVG && c.type != NCCL_INT32))
    raise(env, op, "LOWRANK_BAD_COMMANDS", "unknown reduction");
  if (c.kind == 3 && c.root >= static_cast<uint32_t>(core.size))
    raise(env, op, "LOWRANK_BAD_COMMANDS", "root is no rank of the group");
  checkInteger(env, op, "count", c.count, 0, 1099511627776.0);
  const double bytes = c.count * static_cast<double>(element);
  const CUdeviceptr from = rangeOf(env, device, op, "x", c.from, c.fromOffset, c.kind == 2 ? bytes * core.size : bytes);
  const CUdeviceptr to = rangeOf(env, device, op, "y", c.to, c.toOffset, c.kind == 1 ? bytes * core.size : bytes);
  if (from % element != 0 || to % element != 0) raise(env, op, "LOWRANK_BAD_COMMANDS", "x or y is not aligned to its elements");
  if (c.count == 0) return;

  std::unique_lock<std::mutex> lock(core.mutex);
  if (!core.failure.empty()) raiseFailed(env, op, core.failure);
  const void* x = reinterpret_cast<const void*>(from);
  void* y = reinterpret_cast<void*>(to);
  const size_t count = static_cast<size_t>(c.count);
  const int type = static_cast<int>(c.type), reduction = static_cast<int>(c.op);
  const Nccl& nccl = *core.nccl;
  ncclResult result;
  if (c.kind == 0) result = nccl.allReduce(x, y, count, type, reduction, core.comm, stream->stream);
  else if (c.kind == 1) result = nccl.allGather(x, y, count, type, core.comm, stream->stream);
  else if (c.kind == 2) result = nccl.reduceScatter(x, y, count, type, reduction, core.comm, stream->stream);
  else result = nccl.broadcast(x, y, count, type, static_cast<int>(c.root), core.comm, stream->stream);
  // Connections are made when an op first needs them, which takes the others; later ones are enqueued at once.
  if (!core.settle(core.comm, &result, Clock::now() + core.timeout, true)) core.failure = core.late((std::string("in ") + op).c_str());
  else if (result != NCCL_SUCCESS) core.failure = core.describe(op, result, core.comm);
  noteLaunch(device, stream, stateOf(env).intern(op));
  if (!core.failure.empty()) {
    const std::string failure = core.failure;
    lock.unlock();
    core.wake.notify_all();
    raiseFailed(env, op, failure);
  }
  if (stream->capturing) stream->recordedComms.insert(comm->id);
  else watch(env, device, stream, core, op, lock);
}

void checkRecordedGroups(Napi::Env env, Graph* graph, const char* op) {
  for (double id : graph->comms) {
    Comm* comm = take<Comm>(env, op, "a group of the recording", id, Kind::Comm);
    std::lock_guard<std::mutex> lock(comm->core->mutex);
    if (!comm->core->failure.empty()) raiseFailed(env, op, comm->core->failure);
  }
}

void watchRecordedGroups(Napi::Env env, Graph* graph, Stream* stream, const char* op) {
  for (double id : graph->comms) {
    CommCore& core = *take<Comm>(env, op, "a group of the recording", id, Kind::Comm)->core;
    std::unique_lock<std::mutex> lock(core.mutex);
    watch(env, graph->device, stream, core, op, lock);
  }
}

std::string groupFailure(State& state, Device* device) {
  std::string failure;
  state.handles.each([&](Object* o) {
    if (o->kind != Kind::Comm || o->device != device) return;
    CommCore& core = *static_cast<Comm*>(o)->core;
    std::lock_guard<std::mutex> lock(core.mutex);
    if (core.joined && failure.empty()) failure = core.failure;
  });
  return failure;
}

void checkGroups(Napi::Env env, Device* device, const char* op) {
  const std::string failure = groupFailure(stateOf(env), device);
  if (!failure.empty()) raiseFailed(env, op, failure);
}

void exportCollectives(Napi::Env env, Napi::Object exports) {
  exports.Set("loadNccl", Napi::Function::New(env, loadNccl, "loadNccl"));
  exports.Set("ncclId", Napi::Function::New(env, ncclId, "ncclId"));
  exports.Set("commJoin", Napi::Function::New(env, commJoin, "commJoin"));
  exports.Set("commLeave", Napi::Function::New(env, commLeave, "commLeave"));
}

}  // namespace lowrank
