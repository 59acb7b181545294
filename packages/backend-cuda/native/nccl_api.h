// The part of NCCL that we call, declared from its documented ABI; the library is opened at run time. 2.14 or later: groups are made without
// blocking, so that a rank which does not come can be given up.
#pragma once
#include <cstddef>

#include "cuda_api.h"

namespace lowrank {

using ncclResult = int;
using ncclComm = struct ncclComm_st*;
/** Passed by value. */
struct NcclId {
  char bytes[128];
};
/** As of 2.14; later libraries take a shorter one for what it is. */
struct NcclConfig {
  size_t size;
  unsigned magic;
  unsigned version;
  int blocking;
};

enum : int {
  NCCL_SUCCESS = 0,
  NCCL_IN_PROGRESS = 7,

  NCCL_INT32 = 2,
  NCCL_FLOAT16 = 6,
  NCCL_FLOAT32 = 7,
  NCCL_BFLOAT16 = 9,

  NCCL_SUM = 0,
  NCCL_MAX = 2,
  NCCL_AVG = 4,
};
constexpr unsigned kNcclMagic = 0xcafebeef;
constexpr unsigned kNcclConfigVersion = 21400;

#define LOWRANK_NCCL_REQUIRED(X)                                                                                       \
  X(getVersion, ncclGetVersion, ncclResult, (int* version))                                                            \
  X(getUniqueId, ncclGetUniqueId, ncclResult, (NcclId * id))                                                           \
  X(getErrorString, ncclGetErrorString, const char*, (ncclResult result))                                              \
  X(getLastError, ncclGetLastError, const char*, (ncclComm comm))                                                      \
  X(initRank, ncclCommInitRankConfig, ncclResult,                                                                      \
    (ncclComm * comm, int ranks, NcclId id, int rank, NcclConfig* config))                                             \
  X(getAsyncError, ncclCommGetAsyncError, ncclResult, (ncclComm comm, ncclResult* result))                             \
  X(finalize, ncclCommFinalize, ncclResult, (ncclComm comm))                                                           \
  X(destroy, ncclCommDestroy, ncclResult, (ncclComm comm))                                                             \
  X(abort, ncclCommAbort, ncclResult, (ncclComm comm))                                                                 \
  X(allReduce, ncclAllReduce, ncclResult,                                                                              \
    (const void* from, void* to, size_t count, int type, int op, ncclComm comm, CUstream stream))                      \
  X(allGather, ncclAllGather, ncclResult,                                                                              \
    (const void* from, void* to, size_t count, int type, ncclComm comm, CUstream stream))                              \
  X(reduceScatter, ncclReduceScatter, ncclResult,                                                                      \
    (const void* from, void* to, size_t count, int type, int op, ncclComm comm, CUstream stream))                      \
  X(broadcast, ncclBroadcast, ncclResult,                                                                              \
    (const void* from, void* to, size_t count, int type, int root, ncclComm comm, CUstream stream))

struct Nccl {
#define X(member, symbol, result, params) result(*member) params = nullptr;
  LOWRANK_NCCL_REQUIRED(X)
#undef X
  int version = 0;
};

}  // namespace lowrank
