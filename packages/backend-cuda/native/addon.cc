// @lowrank/backend-cuda's addon: the driver API, cuBLASLt and NCCL behind checked handles. Loads on any machine.
#include "completer.h"
#include "state.h"

namespace lowrank {

/** The environment ends (process exit, worker stopped) with devices still open: give back what the driver holds. */
static void cleanup(void* data) {
  State* state = static_cast<State*>(data);
  std::vector<Device*> devices;
  state->handles.each([&](Object* o) {
    if (o->kind == Kind::HostMemory) static_cast<HostMemory*>(o)->array.SuppressDestruct();
    if (o->kind == Kind::Device) devices.push_back(static_cast<Device*>(o));
  });
  state->ending = true;
  for (Device* device : devices) destroyDevice(*state, device, nullptr);
}

static Napi::Object start(Napi::Env env, Napi::Object exports) {
  State* state = new State();
  env.SetInstanceData<State>(state);
  napi_add_env_cleanup_hook(env, cleanup, state);
  exports.Set("abi", 2);
  exportDevice(env, exports);
  exportMemory(env, exports);
  exportCommands(env, exports);
  exportGraph(env, exports);
  exportMatmul(env, exports);
  exportCollectives(env, exports);
  return exports;
}

}  // namespace lowrank

static Napi::Object Init(Napi::Env env, Napi::Object exports) { return lowrank::start(env, exports); }
NODE_API_MODULE(lowrank_cuda, Init)
