// The part of the CUDA driver API that we call, declared from its documented ABI. The library is opened at run time,
// so neither a CUDA toolkit nor a driver is needed to build this addon or to load it.
#pragma once
#include <cstddef>
#include <cstdint>

#ifdef _WIN32
#define LOWRANK_CUDAAPI __stdcall
#else
#define LOWRANK_CUDAAPI
#endif

namespace lowrank {

using CUresult = int;
using CUdevice = int;
using CUdeviceptr = unsigned long long;
using CUcontext = struct CUctx_st*;
using CUmodule = struct CUmod_st*;
using CUfunction = struct CUfunc_st*;
using CUstream = struct CUstream_st*;
using CUevent = struct CUevent_st*;
using CUgraph = struct CUgraph_st*;
using CUgraphNode = struct CUgraphNode_st*;
using CUgraphExec = struct CUgraphExec_st*;
using CUhostFn = void(LOWRANK_CUDAAPI*)(void*);
struct alignas(64) CUtensorMap {
  uint64_t opaque[16];
};
struct CUlaunchAttribute {
  int id;
  char pad[4];
  union {
    char bytes[64];
    int flag;
  } value;
};
struct CUlaunchConfig {
  unsigned gridX, gridY, gridZ, blockX, blockY, blockZ, sharedBytes;
  CUstream stream;
  CUlaunchAttribute* attributes;
  unsigned count;
};

enum : CUresult {
  CUDA_SUCCESS = 0,
  CUDA_ERROR_INVALID_VALUE = 1,
  CUDA_ERROR_OUT_OF_MEMORY = 2,
  CUDA_ERROR_NO_DEVICE = 100,
  CUDA_ERROR_NO_BINARY_FOR_GPU = 209,
  CUDA_ERROR_NOT_FOUND = 500,
  CUDA_ERROR_NOT_READY = 600,
  CUDA_ERROR_ILLEGAL_ADDRESS = 700,
};

enum : int {
  CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK = 8,
  CU_DEVICE_ATTRIBUTE_CLOCK_RATE = 13,
  CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT = 16,
  CU_DEVICE_ATTRIBUTE_INTEGRATED = 18,
  CU_DEVICE_ATTRIBUTE_PCI_BUS_ID = 33,
  CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID = 34,
  CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE = 36,
  CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH = 37,
  CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE = 38,
  CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75,
  CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76,
  CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN = 97,

  CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK = 0,
  CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES = 1,
  CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES = 3,
  CU_FUNC_ATTRIBUTE_NUM_REGS = 4,
  CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES = 8,

  CU_STREAM_NON_BLOCKING = 1,
  CU_EVENT_DEFAULT = 0,
  CU_EVENT_BLOCKING_SYNC = 1,
  CU_EVENT_DISABLE_TIMING = 2,
  CU_MEMHOSTALLOC_PORTABLE = 1,
  CU_MEMHOSTALLOC_DEVICEMAP = 2,
  CU_STREAM_CAPTURE_MODE_RELAXED = 2,
  CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION = 6,
};

inline void* const CU_LAUNCH_PARAM_END = nullptr;
inline void* const CU_LAUNCH_PARAM_BUFFER_POINTER = reinterpret_cast<void*>(1);
inline void* const CU_LAUNCH_PARAM_BUFFER_SIZE = reinterpret_cast<void*>(2);

// X(member, exported symbol, parameters)
#define LOWRANK_CUDA_REQUIRED(X)                                                                                       \
  X(init, cuInit, (unsigned flags))                                                                                    \
  X(driverGetVersion, cuDriverGetVersion, (int* version))                                                              \
  X(getErrorName, cuGetErrorName, (CUresult error, const char** name))                                                 \
  X(getErrorString, cuGetErrorString, (CUresult error, const char** text))                                             \
  X(deviceGetCount, cuDeviceGetCount, (int* count))                                                                    \
  X(deviceGet, cuDeviceGet, (CUdevice * device, int ordinal))                                                          \
  X(deviceGetName, cuDeviceGetName, (char* name, int length, CUdevice device))                                         \
  X(deviceTotalMem, cuDeviceTotalMem_v2, (size_t* bytes, CUdevice device))                                             \
  X(deviceGetAttribute, cuDeviceGetAttribute, (int* value, int attribute, CUdevice device))                            \
  X(primaryCtxRetain, cuDevicePrimaryCtxRetain, (CUcontext * context, CUdevice device))                                \
  X(primaryCtxRelease, cuDevicePrimaryCtxRelease_v2, (CUdevice device))                                                \
  X(ctxSetCurrent, cuCtxSetCurrent, (CUcontext context))                                                               \
  X(ctxSynchronize, cuCtxSynchronize, ())                                                                              \
  X(memGetInfo, cuMemGetInfo_v2, (size_t* free, size_t* total))                                                        \
  X(memAlloc, cuMemAlloc_v2, (CUdeviceptr * pointer, size_t bytes))                                                    \
  X(memFree, cuMemFree_v2, (CUdeviceptr pointer))                                                                      \
  X(memHostAlloc, cuMemHostAlloc, (void** pointer, size_t bytes, unsigned flags))                                      \
  X(memFreeHost, cuMemFreeHost, (void* pointer))                                                                       \
  X(memcpyHtoDAsync, cuMemcpyHtoDAsync_v2, (CUdeviceptr to, const void* from, size_t bytes, CUstream stream))          \
  X(memcpyDtoHAsync, cuMemcpyDtoHAsync_v2, (void* to, CUdeviceptr from, size_t bytes, CUstream stream))                \
  X(memcpyDtoDAsync, cuMemcpyDtoDAsync_v2, (CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream))          \
  X(memsetD8Async, cuMemsetD8Async, (CUdeviceptr to, unsigned char value, size_t count, CUstream stream))              \
  X(memsetD16Async, cuMemsetD16Async, (CUdeviceptr to, unsigned short value, size_t count, CUstream stream))           \
  X(memsetD32Async, cuMemsetD32Async, (CUdeviceptr to, unsigned value, size_t count, CUstream stream))                 \
  X(streamCreate, cuStreamCreateWithPriority, (CUstream * stream, unsigned flags, int priority))                       \
  X(streamDestroy, cuStreamDestroy_v2, (CUstream stream))                                                              \
  X(streamSynchronize, cuStreamSynchronize, (CUstream stream))                                                         \
  X(streamWaitEvent, cuStreamWaitEvent, (CUstream stream, CUevent event, unsigned flags))                              \
  X(streamBeginCapture, cuStreamBeginCapture_v2, (CUstream stream, int mode))                                          \
  X(streamEndCapture, cuStreamEndCapture, (CUstream stream, CUgraph * graph))                                          \
  X(eventCreate, cuEventCreate, (CUevent * event, unsigned flags))                                                     \
  X(eventRecord, cuEventRecord, (CUevent event, CUstream stream))                                                      \
  X(eventQuery, cuEventQuery, (CUevent event))                                                                         \
  X(eventSynchronize, cuEventSynchronize, (CUevent event))                                                             \
  X(eventElapsedTime, cuEventElapsedTime, (float* milliseconds, CUevent start, CUevent end))                           \
  X(eventDestroy, cuEventDestroy_v2, (CUevent event))                                                                  \
  X(moduleLoadData, cuModuleLoadData, (CUmodule * module, const void* image))                                          \
  X(moduleUnload, cuModuleUnload, (CUmodule module))                                                                   \
  X(moduleGetFunction, cuModuleGetFunction, (CUfunction * function, CUmodule module, const char* name))                \
  X(funcGetAttribute, cuFuncGetAttribute, (int* value, int attribute, CUfunction function))                            \
  X(funcSetAttribute, cuFuncSetAttribute, (CUfunction function, int attribute, int value))                             \
  X(launchKernel, cuLaunchKernel,                                                                                      \
    (CUfunction function, unsigned gridX, unsigned gridY, unsigned gridZ, unsigned blockX, unsigned blockY,            \
     unsigned blockZ, unsigned sharedBytes, CUstream stream, void** params, void** extra))                             \
  X(launchHostFunc, cuLaunchHostFunc, (CUstream stream, CUhostFn function, void* data))                                \
  X(graphInstantiate, cuGraphInstantiateWithFlags, (CUgraphExec * exec, CUgraph graph, unsigned long long flags))      \
  X(graphLaunch, cuGraphLaunch, (CUgraphExec exec, CUstream stream))                                                   \
  X(graphExecDestroy, cuGraphExecDestroy, (CUgraphExec exec))                                                          \
  X(graphDestroy, cuGraphDestroy, (CUgraph graph))                                                                     \
  X(graphGetNodes, cuGraphGetNodes, (CUgraph graph, CUgraphNode * nodes, size_t* count))

// Absent on some drivers; what needs them does without.
#define LOWRANK_CUDA_OPTIONAL(X)                                                                                       \
  X(launchKernelEx, cuLaunchKernelEx, (const CUlaunchConfig* config, CUfunction function, void** params, void** extra)) \
  X(funcGetParamInfo, cuFuncGetParamInfo, (CUfunction function, size_t index, size_t* offset, size_t* bytes))          \
  X(streamWriteValue32, cuStreamWriteValue32_v2, (CUstream stream, CUdeviceptr at, uint32_t value, unsigned flags))    \
  X(tensorMapEncodeTiled, cuTensorMapEncodeTiled,                                                                      \
    (CUtensorMap * map, int dataType, uint32_t rank, void* address, const uint64_t* dims, const uint64_t* strides,     \
     const uint32_t* box, const uint32_t* elementStrides, int interleave, int swizzle, int l2, int oobFill))

struct Driver {
#define X(member, symbol, params) CUresult(LOWRANK_CUDAAPI* member) params = nullptr;
  LOWRANK_CUDA_REQUIRED(X)
  LOWRANK_CUDA_OPTIONAL(X)
#undef X
  int version = 0;
  int deviceCount = 0;
};

/** Errors after which a context takes no further work. */
inline bool isSticky(CUresult r) {
  return (r >= 700 && r <= 719 && r != 704 && r != 705 && r != 708 && r != 712 && r != 713) || r == 214 || r == 220 ||
         r == 226;
}

}  // namespace lowrank
