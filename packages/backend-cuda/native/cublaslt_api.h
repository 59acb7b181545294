// The part of cuBLASLt that we call, declared from its documented ABI; the library is opened at run time.
#pragma once
#include <cstddef>
#include <cstdint>
#include "cuda_api.h"

namespace lowrank {

using cublasStatus = int;
using cublasLtHandle = struct cublasLtContext*;
using LtDesc = struct LtMatmulDesc_st*;
using LtLayout = struct LtMatrixLayout_st*;
using LtPreference = struct LtMatmulPreference_st*;
struct LtAlgo {
  uint64_t data[8];
};
struct LtHeuristic {
  LtAlgo algo;
  size_t workspaceSize;
  cublasStatus state;
  float wavesCount;
  int reserved[4];
};

enum : int {
  CUDA_R_32F = 0,
  CUDA_R_16F = 2,
  CUDA_R_8I = 3,
  CUDA_R_32I = 10,
  CUDA_R_16BF = 14,
  CUDA_R_8F_E4M3 = 28,
  CUDA_R_8F_E5M2 = 29,

  CUBLAS_COMPUTE_32F = 68,
  CUBLAS_COMPUTE_32I = 72,
  CUBLAS_COMPUTE_32F_FAST_TF32 = 77,

  CUBLAS_OP_N = 0,
  CUBLAS_OP_T = 1,

  LT_DESC_TRANSA = 3,
  LT_DESC_TRANSB = 4,
  LT_DESC_EPILOGUE = 7,
  LT_DESC_BIAS_POINTER = 8,
  LT_DESC_A_SCALE_POINTER = 17,
  LT_DESC_B_SCALE_POINTER = 18,
  LT_DESC_FAST_ACCUM = 25,
  LT_DESC_BIAS_DATA_TYPE = 26,
  LT_DESC_A_SCALE_MODE = 31,
  LT_DESC_B_SCALE_MODE = 32,

  LT_SCALE_OUTER_VEC_32F = 3,

  LT_LAYOUT_BATCH_COUNT = 5,
  LT_LAYOUT_STRIDED_BATCH_OFFSET = 6,

  LT_PREF_MAX_WORKSPACE_BYTES = 1,
  LT_PREF_REDUCTION_SCHEME_MASK = 3,
  LT_PREF_MIN_ALIGNMENT_A_BYTES = 5,
  LT_PREF_MIN_ALIGNMENT_B_BYTES = 6,
  LT_PREF_MIN_ALIGNMENT_C_BYTES = 7,
  LT_PREF_MIN_ALIGNMENT_D_BYTES = 8,

  // In-place reductions of split-K sum in the order in which blocks finish; these two sum in a fixed order.
  LT_REDUCTION_DETERMINISTIC = 2 | 4,

  LT_EPILOGUE_DEFAULT = 1,
  LT_EPILOGUE_BIAS = 4,
};

#define LOWRANK_CUBLASLT_REQUIRED(X)                                                                                   \
  X(create, cublasLtCreate, (cublasLtHandle * handle))                                                                 \
  X(destroy, cublasLtDestroy, (cublasLtHandle handle))                                                                 \
  X(descCreate, cublasLtMatmulDescCreate, (LtDesc * desc, int computeType, int scaleType))                             \
  X(descDestroy, cublasLtMatmulDescDestroy, (LtDesc desc))                                                             \
  X(descSet, cublasLtMatmulDescSetAttribute, (LtDesc desc, int attribute, const void* value, size_t bytes))            \
  X(layoutCreate, cublasLtMatrixLayoutCreate,                                                                          \
    (LtLayout * layout, int type, uint64_t rows, uint64_t cols, int64_t ld))                                           \
  X(layoutDestroy, cublasLtMatrixLayoutDestroy, (LtLayout layout))                                                     \
  X(layoutSet, cublasLtMatrixLayoutSetAttribute, (LtLayout layout, int attribute, const void* value, size_t bytes))    \
  X(prefCreate, cublasLtMatmulPreferenceCreate, (LtPreference * preference))                                           \
  X(prefDestroy, cublasLtMatmulPreferenceDestroy, (LtPreference preference))                                           \
  X(prefSet, cublasLtMatmulPreferenceSetAttribute,                                                                     \
    (LtPreference preference, int attribute, const void* value, size_t bytes))                                         \
  X(heuristic, cublasLtMatmulAlgoGetHeuristic,                                                                         \
    (cublasLtHandle handle, LtDesc desc, LtLayout a, LtLayout b, LtLayout c, LtLayout d, LtPreference preference,      \
     int requested, LtHeuristic* results, int* returned))                                                              \
  X(algoCheck, cublasLtMatmulAlgoCheck,                                                                                \
    (cublasLtHandle handle, LtDesc desc, LtLayout a, LtLayout b, LtLayout c, LtLayout d, const LtAlgo* algo,           \
     LtHeuristic* result))                                                                                             \
  X(matmul, cublasLtMatmul,                                                                                            \
    (cublasLtHandle handle, LtDesc desc, const void* alpha, const void* a, LtLayout aLayout, const void* b,            \
     LtLayout bLayout, const void* beta, const void* c, LtLayout cLayout, void* d, LtLayout dLayout,                   \
     const LtAlgo* algo, void* workspace, size_t workspaceBytes, CUstream stream))

struct CublasLt {
#define X(member, symbol, params) cublasStatus(*member) params = nullptr;
  LOWRANK_CUBLASLT_REQUIRED(X)
#undef X
  size_t (*getVersion)() = nullptr;
  size_t version = 0;
};

const char* cublasStatusName(cublasStatus status);

}  // namespace lowrank
