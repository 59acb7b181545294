// A thread that waits for device events, so that JavaScript never does: it finishes reads and settles their promises.
#pragma once
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "state.h"

namespace lowrank {

struct Job {
  CUevent event = nullptr;
  Staging staging;
  void* to = nullptr;
  size_t bytes = 0;
  CUresult status = 0;
  const char* op = "";
  Napi::Promise::Deferred deferred;
  Napi::Reference<Napi::Value> result;
  explicit Job(Napi::Env env) : deferred(Napi::Promise::Deferred::New(env)) {}
};

class Completer {
 public:
  Completer(Napi::Env env, Device* device);
  ~Completer();
  /** Takes the job; its event was recorded already. Called on the JavaScript thread. */
  void submit(Napi::Env env, std::unique_ptr<Job> job);
  /** Ends the thread. Jobs that are still waiting are rejected, where there is an environment to do it in. */
  void end(const Napi::Env* env);
  size_t pending() const { return pending_; }

 private:
  void loop();
  static void settle(Napi::Env env, Completer* self, Job* job);

  Device* device_;
  Napi::ThreadSafeFunction tsfn_;
  std::thread thread_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::unique_ptr<Job>> queue_;
  std::deque<Job*> finished_;
  bool stopping_ = false;
  size_t pending_ = 0;
};

}  // namespace lowrank
