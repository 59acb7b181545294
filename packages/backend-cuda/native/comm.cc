#include "comm.h"

namespace lowrank {

namespace {
constexpr auto kTick = std::chrono::milliseconds(20);
/** What an aborted communicator gets to give its memory back before the device goes without it. */
constexpr auto kGrace = std::chrono::seconds(10);
}  // namespace

std::string CommCore::describe(const char* call, ncclResult result, ncclComm on) const {
  const char* text = nccl->getErrorString(result);
  std::string full = std::string(call) + " gave " + (text && *text ? text : "error " + std::to_string(result));
  const char* last = nccl->getLastError(on);
  if (last && *last) full += std::string(" (") + last + ")";
  return full;
}

std::string CommCore::late(const char* what) const {
  return "rank " + std::to_string(rank) + " of " + std::to_string(size) + " waited " + std::to_string(timeout.count()) +
         " ms for the others " + what;
}

bool CommCore::settle(ncclComm on, ncclResult* result, Clock::time_point until, bool locked) {
  const Clock::time_point began = Clock::now();
  while (*result == NCCL_IN_PROGRESS) {
    const Clock::time_point now = Clock::now();
    if (now > until) return false;
    if (now - began < std::chrono::microseconds(200)) std::this_thread::yield();
    else std::this_thread::sleep_for(std::chrono::microseconds(now - began < std::chrono::milliseconds(50) ? 50 : 1000));
    if (!locked) {
      std::lock_guard<std::mutex> lock(mutex);
      if (closing) return false;
    }
    ncclResult state = NCCL_IN_PROGRESS;
    const ncclResult asked = nccl->getAsyncError(on, &state);
    *result = asked != NCCL_SUCCESS ? asked : state;
  }
  return true;
}

bool CommCore::join() {
  NcclConfig config{sizeof(NcclConfig), kNcclMagic, kNcclConfigVersion, 0};
  ncclComm made = nullptr;
  ncclResult result = nccl->initRank(&made, size, id, rank, &config);
  const bool settled = settle(made, &result, Clock::now() + timeout, false);
  std::string why;
  if (!settled) why = late("to join");
  else if (result != NCCL_SUCCESS) why = describe("ncclCommInitRankConfig", result, made);
  if (!why.empty() && made) nccl->abort(made);
  std::lock_guard<std::mutex> lock(mutex);
  failure = why;
  if (!why.empty()) return false;
  comm = made;
  return joined = true;
}

/** With the mutex: what has passed is taken off; what failed or is late is the group's failure. */
void CommCore::look() {
  const Clock::time_point now = Clock::now();
  while (!watched.empty()) {
    const CUresult r = cu.eventQuery(watched.front().event);
    if (r == CUDA_ERROR_NOT_READY) break;
    spent.push_back(watched.front().event);
    watched.pop_front();
    if (!watched.empty()) watched.front().since = now;
  }
  ncclResult state = NCCL_SUCCESS;
  const ncclResult asked = nccl->getAsyncError(comm, &state);
  if (asked != NCCL_SUCCESS) state = asked;
  if (state != NCCL_SUCCESS && state != NCCL_IN_PROGRESS) failure = describe("a collective", state, comm);
  else if (!watched.empty() && now - watched.front().since > timeout) failure = late("in a collective");
}

/** Has JavaScript look at what came of joining or leaving. */
void CommCore::notify() {
  std::lock_guard<std::mutex> lock(mutex);
  if (deaf) return;
  auto* self = new std::shared_ptr<CommCore>(shared_from_this());
  const napi_status sent = tell.NonBlockingCall(self, [](Napi::Env env, Napi::Function, std::shared_ptr<CommCore>* held) {
    std::unique_ptr<std::shared_ptr<CommCore>> core(held);
    Comm* owner = (*core)->owner;
    if (env == nullptr || !owner) return;
    std::string failure;
    bool joined, done;
    {
      std::lock_guard<std::mutex> lock((*core)->mutex);
      failure = (*core)->failure;
      joined = (*core)->joined;
      done = (*core)->done;
    }
    if (auto promise = std::move(owner->joining)) {
      (*core)->tell.Unref(env);
      if (joined) promise->Resolve(Napi::Number::New(env, owner->id));
      else promise->Reject(makeError(env, "join", "LOWRANK_GROUP_FAILED", "the group did not form: " + failure).Value());
      if (!joined) destroyObject(stateOf(env), owner);
      return;
    }
    if (!done) return;
    if (auto promise = std::move(owner->leaving)) {
      (*core)->tell.Unref(env);
      if (failure.empty()) promise->Resolve(env.Undefined());
      else promise->Reject(makeError(env, "leave", "LOWRANK_GROUP_FAILED", "the group had failed: " + failure).Value());
      destroyObject(stateOf(env), owner);
    }
  });
  if (sent != napi_ok) delete self;
}

void CommCore::work() {
  cu.ctxSetCurrent(context);
  if (join()) {
    notify();
    std::unique_lock<std::mutex> lock(mutex);
    while (!leaving && !closing && failure.empty()) {
      if (watched.empty()) wake.wait(lock);
      else {
        wake.wait_for(lock, kTick);
        look();
      }
    }
    const bool orderly = leaving && !closing && failure.empty();
    ncclComm last = std::exchange(comm, nullptr);
    lock.unlock();
    std::string why;
    if (orderly) {
      // All ranks take their memory back together: another one may still read what this one sent.
      ncclResult result = nccl->finalize(last);
      if (!settle(last, &result, Clock::now() + timeout, false)) why = late("to leave");
      else if (result != NCCL_SUCCESS) why = describe("ncclCommFinalize", result, last);
      else if ((result = nccl->destroy(last)) != NCCL_SUCCESS) why = describe("ncclCommDestroy", result, nullptr);
      else last = nullptr;
    }
    // Recordings that hold its ops keep it here until they are released; its kernels end at once.
    if (last) nccl->abort(last);
    lock.lock();
    if (failure.empty()) failure = why;
  }
  {
    std::lock_guard<std::mutex> lock(mutex);
    done = true;
  }
  wake.notify_all();
  notify();
}

void closeComms(State& state, Device* device, const Napi::Env* env) {
  state.handles.each([&](Object* o) {
    if (o->kind != Kind::Comm || o->device != device) return;
    Comm* comm = static_cast<Comm*>(o);
    {
      std::lock_guard<std::mutex> lock(comm->core->mutex);
      comm->core->closing = true;
    }
    comm->core->wake.notify_all();
    for (auto* promise : {&comm->joining, &comm->leaving}) {
      if (!*promise) continue;
      if (env) (*promise)->Reject(makeError(*env, "join", "LOWRANK_CLOSED", "the device was closed before this was done").Value());
      promise->reset();
    }
  });
}

void endComm(Comm* comm) {
  CommCore& core = *comm->core;
  std::unique_lock<std::mutex> lock(core.mutex);
  core.owner = nullptr;
  core.deaf = true;
  const bool ended = core.wake.wait_for(lock, kGrace, [&] { return core.done; });
  for (const auto& w : core.watched) core.cu.eventDestroy(w.event);
  for (CUevent event : core.spent) core.cu.eventDestroy(event);
  core.watched.clear();
  core.spent.clear();
  lock.unlock();
  core.tell.Abort();
  if (ended) comm->thread.join();
  else comm->thread.detach();
}

}  // namespace lowrank
