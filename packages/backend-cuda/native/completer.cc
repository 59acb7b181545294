#include "completer.h"

#include <cstring>

namespace lowrank {

Completer::Completer(Napi::Env env, Device* device) : device_(device) {
  tsfn_ = Napi::ThreadSafeFunction::New(
      env, Napi::Function::New(env, [](const Napi::CallbackInfo&) {}), "lowrank cuda completion", 0, 1);
  tsfn_.Unref(env);
  thread_ = std::thread([this] { loop(); });
}

Completer::~Completer() {
  end(nullptr);
  tsfn_.Abort();
}

void Completer::end(const Napi::Env* env) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
  for (auto& job : queue_) finished_.push_back(job.release());
  queue_.clear();
  // Nobody settles these any more. Their memory goes with the device.
  for (Job* job : finished_) {
    device_->cu().eventDestroy(job->event);
    if (job->staging.pointer) device_->cu().memFreeHost(job->staging.pointer);
    if (env) {
      job->deferred.Reject(makeError(*env, job->op, "LOWRANK_CLOSED", "the device was closed before this was done").Value());
      pending_--;
    }
    delete job;
  }
  finished_.clear();
}

void Completer::submit(Napi::Env env, std::unique_ptr<Job> job) {
  if (pending_++ == 0) tsfn_.Ref(env);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    queue_.push_back(std::move(job));
  }
  wake_.notify_one();
}

void Completer::loop() {
  const Driver& cu = device_->cu();
  cu.ctxSetCurrent(device_->context);
  for (;;) {
    Job* job;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
      if (stopping_) return;
      job = queue_.front().release();
      queue_.pop_front();
    }
    job->status = cu.eventSynchronize(job->event);
    if (job->status == CUDA_SUCCESS && job->staging.pointer && job->to && job->bytes)
      copyBytes(job->to, job->staging.pointer, job->bytes);
    {
      std::lock_guard<std::mutex> lock(mutex_);
      finished_.push_back(job);
    }
    tsfn_.NonBlockingCall(this, [](Napi::Env env, Napi::Function, Completer* self) {
      if (env == nullptr) return;
      Job* done = nullptr;
      {
        std::lock_guard<std::mutex> lock(self->mutex_);
        if (self->finished_.empty()) return;
        done = self->finished_.front();
        self->finished_.pop_front();
      }
      settle(env, self, done);
    });
  }
}

void Completer::settle(Napi::Env env, Completer* self, Job* raw) {
  std::unique_ptr<Job> job(raw);
  Device* device = self->device_;
  if (--self->pending_ == 0) self->tsfn_.Unref(env);
  if (job->status == CUDA_SUCCESS) {
    device->eventPool.push_back(job->event);
    giveStaging(device, job->staging);
    // A collective that was given up lets the device go on, with anything in its memory.
    const std::string failure = groupFailure(stateOf(env), device);
    if (!failure.empty())
      job->deferred.Reject(makeError(env, job->op, "LOWRANK_GROUP_FAILED", "the group has failed: " + failure).Value());
    else job->deferred.Resolve(job->result.IsEmpty() ? env.Undefined() : job->result.Value());
  } else {
    if (job->staging.pointer) giveStaging(device, job->staging);
    device->cu().eventDestroy(job->event);
    job->deferred.Reject(makeCudaError(env, device, job->op, job->status).Value());
  }
}

}  // namespace lowrank
