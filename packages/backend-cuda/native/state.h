// What one JavaScript environment holds: opened libraries, devices and their objects, and the helpers that every entry uses.
#pragma once
#define NAPI_VERSION 8
#ifndef NAPI_CPP_EXCEPTIONS
#define NAPI_CPP_EXCEPTIONS
#endif
#include <napi.h>

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "cublaslt_api.h"
#include "cuda_api.h"
#include "handles.h"
#include "nccl_api.h"

namespace lowrank {

class Completer;

struct Library : Object {
  Driver api;
  std::string path;
  void* os = nullptr;
  Library() : Object(Kind::Library, nullptr) {}
};

/** Pinned host memory that transfers pass through; power-of-two sizes, kept for reuse. */
struct Staging {
  void* pointer = nullptr;
  size_t bytes = 0;
};

struct Device : Object {
  Library* library;
  CUdevice ordinalDevice = 0;
  int ordinal = 0;
  CUcontext context = nullptr;
  int smemOptin = 0;
  CUresult lost = 0;
  std::string lostDetail;
  uint64_t deviceBytes = 0;
  uint64_t hostBytes = 0;
  bool syncEachLaunch = false;
  /** Launches may begin while the kernel before them ends (programmatic dependent launch: compute capability 9 and later). */
  bool overlaps = false;

  std::unique_ptr<Completer> completer;
  std::map<size_t, std::vector<void*>> stagingFree;
  size_t stagingCached = 0;
  std::vector<CUevent> eventPool;
  struct PendingWrite {
    CUevent event;
    Staging staging;
  };
  std::deque<PendingWrite> pendingWrites;

  std::unique_ptr<CublasLt> lt;
  void* ltOs = nullptr;
  std::string ltPath;
  cublasLtHandle ltHandle = nullptr;

  Device();
  ~Device() override;
  const Driver& cu() const { return library->api; }
};

struct Stream : Object {
  CUstream stream = nullptr;
  bool capturing = false;
  /** The stream waits for another one: the next launch comes after all of that. */
  bool joined = false;
  // The last launches by name, and a word that the device advances after some of them: what lies between is what may have
  // faulted.
  static constexpr uint32_t kRing = 256;
  static constexpr uint32_t kMarkEvery = 16;
  uint32_t launched = 0;
  const std::string* names[kRing] = {};
  volatile uint32_t* marker = nullptr;
  // The same within a recording, in the second word: launches of it that are done.
  static constexpr size_t kMarkRecorded = 64;
  std::vector<const std::string*> recorded;
  /** Groups whose ops the recording holds. */
  std::set<double> recordedComms;
  explicit Stream(Device* d) : Object(Kind::Stream, d) {}
};

struct Event : Object {
  CUevent event = nullptr;
  bool timing = false;
  bool recorded = false;
  explicit Event(Device* d) : Object(Kind::Event, d) {}
};

struct Memory : Object {
  CUdeviceptr pointer = 0;
  size_t bytes = 0;
  explicit Memory(Device* d) : Object(Kind::Memory, d) {}
};

struct HostMemory : Object {
  void* pointer = nullptr;
  size_t bytes = 0;
  Napi::Reference<Napi::ArrayBuffer> array;
  explicit HostMemory(Device* d) : Object(Kind::HostMemory, d) {}
};

struct Module : Object {
  CUmodule module = nullptr;
  std::string name;
  explicit Module(Device* d) : Object(Kind::Module, d) {}
};

struct Function : Object {
  CUfunction function = nullptr;
  Module* module = nullptr;
  const std::string* name = nullptr;
  int maxThreads = 1024;
  int staticShared = 0;
  int registers = 0;
  int localBytes = 0;
  int dynamicShared = 48 * 1024;
  explicit Function(Device* d) : Object(Kind::Function, d) {}
};

struct Graph : Object {
  CUgraphExec exec = nullptr;
  std::vector<const std::string*> names;
  size_t nodes = 0;
  const std::string* name = nullptr;
  std::set<double> comms;
  explicit Graph(Device* d) : Object(Kind::Graph, d) {}
};

struct Plan : Object {
  LtDesc desc = nullptr;
  LtLayout a = nullptr, b = nullptr, d = nullptr;
  std::vector<LtHeuristic> algos;
  size_t chosen = 0;
  // Bytes that each operand reaches, in the caller's row-major naming.
  double bytesA = 0, bytesB = 0, bytesD = 0, bytesBias = 0, bytesScaleA = 0, bytesScaleB = 0;
  bool bias = false, scaled = false;
  const std::string* name = nullptr;
  explicit Plan(Device* d) : Object(Kind::Plan, d) {}
  ~Plan() override;
};

struct State {
  Handles handles;
  std::set<std::string> names;
  bool ending = false;
  std::shared_ptr<Nccl> nccl;
  std::string ncclPath;
  const std::string* intern(const std::string& s) { return &*names.insert(s).first; }
};

State& stateOf(Napi::Env env);

// ---- errors ----
[[noreturn]] void raise(Napi::Env env, const std::string& op, const std::string& code, const std::string& text);
Napi::Error makeError(Napi::Env env, const std::string& op, const std::string& code, const std::string& text);
Napi::Error makeCudaError(Napi::Env env, Device* device, const char* op, CUresult result, const std::string& facts = "");
[[noreturn]] void raiseCuda(Napi::Env env, Device* device, const char* op, CUresult result, const std::string& facts = "");
std::string errorName(const Driver& api, CUresult result);

/** Throws when `result` is an error; remembers those that end the context. */
inline void ok(Napi::Env env, Device* device, const char* op, CUresult result, const std::string& facts = "") {
  if (result != CUDA_SUCCESS) raiseCuda(env, device, op, result, facts);
}

// ---- arguments ----
template <typename T>
T* take(Napi::Env env, const char* op, const char* what, double id, Kind kind) {
  std::string why;
  Object* object = stateOf(env).handles.find(id, kind, &why);
  if (!object)
    raise(env, op, "LOWRANK_BAD_HANDLE", std::string(what) + " is " + why + ", a " + kindName(kind) + " was expected");
  return static_cast<T*>(object);
}
double numberArg(const Napi::CallbackInfo& info, size_t i, const char* op, const char* what);
/** A whole number in [min, max]. */
double integerArg(const Napi::CallbackInfo& info, size_t i, const char* op, const char* what, double min, double max);
void checkInteger(Napi::Env env, const char* op, const char* what, double value, double min, double max);
template <typename T>
T* handleArg(const Napi::CallbackInfo& info, size_t i, const char* op, const char* what, Kind kind) {
  return take<T>(info.Env(), op, what, numberArg(info, i, op, what), kind);
}
std::string stringArg(const Napi::CallbackInfo& info, size_t i, const char* op, const char* what);
/** Bytes of a Uint8Array argument; the pointer lives as long as the call. */
struct Bytes {
  uint8_t* data;
  size_t size;
};
Bytes bytesArg(const Napi::CallbackInfo& info, size_t i, const char* op, const char* what);

/** Makes the device's context current and refuses a lost device. */
void enter(Napi::Env env, Device* device, const char* op);
/** The device address of a checked range. */
CUdeviceptr rangeOf(Napi::Env env, Device* device, const char* op, const char* what, double memory, double offset,
                    double bytes);

CUevent takeEvent(Napi::Env env, Device* device, const char* op);
Staging takeStaging(Napi::Env env, Device* device, const char* op, size_t bytes);
void giveStaging(Device* device, Staging staging);
void reapWrites(Device* device, bool wait);
/** memcpy, by several threads where there is much: one thread moves a few gigabytes a second, the bus fifty. */
void copyBytes(void* to, const void* from, size_t bytes);
/** Frees every object of a device, then its context. With an environment, waits for the device and rejects what is under way. Throws nothing. */
void destroyDevice(State& state, Device* device, const Napi::Env* env);
void destroyObject(State& state, Object* object);
/** Remembers a launch for the report of a fault. `mark`: the device says at once when it is past it. */
void noteLaunch(Device* device, Stream* stream, const std::string* name, bool mark = false);
/** Has the device say, in stream order, how far it is in a recording. */
void noteProgress(Device* device, Stream* stream, size_t launches);

// ---- groups of devices ----
struct CollectiveCommand {
  double comm;
  /** allReduce, allGather, reduceScatter, broadcast. */
  uint32_t kind;
  /** As NCCL counts. */
  uint32_t type, op, root;
  /** Elements of x, of reduceScatter those of y. */
  double count;
  double from, fromOffset, to, toOffset;
};
void runCollective(Napi::Env env, Device* device, Stream* stream, const CollectiveCommand& command);
/** Before and after the launch of a recording with collectives. */
void checkRecordedGroups(Napi::Env env, Graph* graph, const char* op);
void watchRecordedGroups(Napi::Env env, Graph* graph, Stream* stream, const char* op);
/** Why a group that the device is in is of no use any more; what was computed since is not to be read. Empty where all are well. */
std::string groupFailure(State& state, Device* device);
void checkGroups(Napi::Env env, Device* device, const char* op);

// ---- entries, one file a group ----
void exportDevice(Napi::Env env, Napi::Object exports);
void exportMemory(Napi::Env env, Napi::Object exports);
void exportCommands(Napi::Env env, Napi::Object exports);
void exportGraph(Napi::Env env, Napi::Object exports);
void exportMatmul(Napi::Env env, Napi::Object exports);
void exportCollectives(Napi::Env env, Napi::Object exports);

}  // namespace lowrank
