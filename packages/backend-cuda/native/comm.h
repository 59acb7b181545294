// A rank of a group of devices, and the thread that joins it, watches over what it enqueues, and leaves.
#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "nccl_api.h"
#include "state.h"

namespace lowrank {

using Clock = std::chrono::steady_clock;

/**
 * What the thread and JavaScript share. The communicator belongs to the thread; JavaScript uses it under the mutex. Everything that waits for
 * other ranks has an end: on the host the wait for `ncclInProgress`, on the device an event behind each collective that is late.
 */
struct CommCore : std::enable_shared_from_this<CommCore> {
  std::shared_ptr<const Nccl> nccl;
  Driver cu;
  CUcontext context = nullptr;
  int rank = 0, size = 0;
  NcclId id{};
  std::chrono::milliseconds timeout{0};

  std::mutex mutex;
  std::condition_variable wake;
  ncclComm comm = nullptr;
  /** Why the group is of no more use; empty while it is. */
  std::string failure;
  bool joined = false, leaving = false, closing = false, done = false;
  struct Watched {
    CUevent event;
    Clock::time_point since;
  };
  std::deque<Watched> watched;
  /** Events that have passed, to be used again. */
  std::vector<CUevent> spent;

  Napi::ThreadSafeFunction tell;
  bool deaf = false;
  /** JavaScript's thread alone. */
  struct Comm* owner = nullptr;

  void work();
  std::string describe(const char* call, ncclResult result, ncclComm comm) const;
  /** Waits for a call on the host; the mutex is held or the communicator not yet shared. False: the time is over or the device closes. */
  bool settle(ncclComm on, ncclResult* result, Clock::time_point until, bool locked);
  std::string late(const char* what) const;
  void notify();

 private:
  bool join();
  void look();
};

struct Comm : Object {
  std::shared_ptr<CommCore> core;
  std::thread thread;
  std::unique_ptr<Napi::Promise::Deferred> joining, leaving;
  explicit Comm(Device* d) : Object(Kind::Comm, d) {}
};

/** Asks the threads of a device's groups to give up; returns at once. Promises are rejected where there is an environment. */
void closeComms(State& state, Device* device, const Napi::Env* env);
/** Ends the thread of a group that was closed or is done. */
void endComm(Comm* comm);

}  // namespace lowrank
