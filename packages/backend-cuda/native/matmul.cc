// cuBLASLt plans. Callers speak row-major: D[m,n] = alpha · op(A) · op(B) + beta · D. The library is column-major, so it gets the
// transposed problem Dᵀ = op(B)ᵀ · op(A)ᵀ: the operands change places and each keeps its flag.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "dynlib.h"
#include "state.h"

namespace lowrank {

const char* cublasStatusName(cublasStatus status) {
  switch (status) {
    case 0: return "CUBLAS_STATUS_SUCCESS";
    case 1: return "CUBLAS_STATUS_NOT_INITIALIZED";
    case 3: return "CUBLAS_STATUS_ALLOC_FAILED";
    case 7: return "CUBLAS_STATUS_INVALID_VALUE";
    case 8: return "CUBLAS_STATUS_ARCH_MISMATCH";
    case 11: return "CUBLAS_STATUS_MAPPING_ERROR";
    case 13: return "CUBLAS_STATUS_EXECUTION_FAILED";
    case 14: return "CUBLAS_STATUS_INTERNAL_ERROR";
    case 15: return "CUBLAS_STATUS_NOT_SUPPORTED";
    case 16: return "CUBLAS_STATUS_LICENSE_ERROR";
    default: return "CUBLAS_STATUS_UNKNOWN";
  }
}

namespace {

[[noreturn]] void raiseBlas(Napi::Env env, const std::string& op, cublasStatus status, const std::string& facts) {
  raise(env, op, cublasStatusName(status), std::string(cublasStatusName(status)) + ": " + facts);
}

/** loadBlas(device, paths): { ok: true, path, version } or { ok: false, reason }. */
Napi::Value loadBlas(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const char* op = "cuda.loadBlas";
  Device* device = handleArg<Device>(info, 0, op, "device", Kind::Device);
  if (info.Length() < 2 || !info[1].IsArray())
    raise(env, op, "LOWRANK_BAD_ARGUMENT", "paths must be an array of strings");
  enter(env, device, op);
  if (device->lt) raise(env, op, "LOWRANK_BAD_ARGUMENT", "cuBLASLt is loaded already");
  Napi::Array paths = info[1].As<Napi::Array>();
  Napi::Object result = Napi::Object::New(env);
  std::string reason;
  for (uint32_t i = 0; i < paths.Length(); i++) {
    if (!paths.Get(i).IsString()) raise(env, op, "LOWRANK_BAD_ARGUMENT", "paths must be an array of strings");
    const std::string path = paths.Get(i).As<Napi::String>().Utf8Value();
    std::string why;
    void* os = openLibrary(path, &why);
    if (!os) {
      reason += (reason.empty() ? "" : "; ") + why;
      continue;
    }
    auto lt = std::make_unique<CublasLt>();
    std::string missing;
#define X(member, symbol, params)                                              \
  lt->member = reinterpret_cast<decltype(lt->member)>(findSymbol(os, #symbol)); \
  if (!lt->member && missing.empty()) missing = #symbol;
    LOWRANK_CUBLASLT_REQUIRED(X)
#undef X
    lt->getVersion = reinterpret_cast<size_t (*)()>(findSymbol(os, "cublasLtGetVersion"));
    if (!missing.empty()) {
      reason += (reason.empty() ? "" : "; ") + path + " has no " + missing;
      continue;
    }
    lt->version = lt->getVersion ? lt->getVersion() : 0;
    cublasLtHandle handle = nullptr;
    const cublasStatus status = lt->create(&handle);
    if (status != 0) {
      reason += (reason.empty() ? "" : "; ") + path + " did not start: " + cublasStatusName(status);
      continue;
    }
    device->ltPath = libraryFile(reinterpret_cast<void*>(lt->create), path);
    device->lt = std::move(lt);
    device->ltHandle = handle;
    result.Set("ok", true);
    result.Set("path", device->ltPath);
    result.Set("version", static_cast<double>(device->lt->version));
    return result;
  }
  result.Set("ok", false);
  result.Set("reason", "cuBLASLt was not found (" + reason + ")");
  return result;
}

struct Options {
  Napi::Env env;
  const char* op;
  Napi::Object object;
  double number(const char* key, double fallback, double min, double max) const {
    Napi::Value value = object.Get(key);
    if (value.IsUndefined()) return fallback;
    if (!value.IsNumber()) raise(env, op, "LOWRANK_BAD_ARGUMENT", std::string(key) + " must be a number");
    const double v = value.As<Napi::Number>().DoubleValue();
    checkInteger(env, op, key, v, min, max);
    return v;
  }
  bool flag(const char* key) const { return object.Get(key).ToBoolean(); }
};

double elementBytes(int type) {
  switch (type) {
    case CUDA_R_32F:
    case CUDA_R_32I: return 4;
    case CUDA_R_16F:
    case CUDA_R_16BF: return 2;
    default: return 1;
  }
}

int typeOf(const Options& o, const char* key) {
  const int type = static_cast<int>(o.number(key, -1, -1, 64));
  switch (type) {
    case CUDA_R_32F: case CUDA_R_16F: case CUDA_R_16BF: case CUDA_R_8F_E4M3: case CUDA_R_8F_E5M2: case CUDA_R_8I:
    case CUDA_R_32I: return type;
    default: raise(o.env, o.op, "LOWRANK_BAD_ARGUMENT", std::string(key) + " is no type that matmul takes");
  }
}

/**
 * matmulPlan(device, { m, n, k, transA, transB, typeA, typeB, typeD, typeBias?, tf32?, lda?, ldb?, ldd?, batch?, strideA?,
 * strideB?, strideD?, bias?, rowScales?, workspaceBytes, candidates?, align? }): { handle, algos: [{ workspaceBytes, waves }] }.
 * Leading dimensions and strides are in elements. Algorithms whose sums depend on timing are left out.
 */
Napi::Value matmulPlan(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const char* op = "cuda.matmulPlan";
  Device* device = handleArg<Device>(info, 0, op, "device", Kind::Device);
  if (info.Length() < 2 || !info[1].IsObject()) raise(env, op, "LOWRANK_BAD_ARGUMENT", "options must be an object");
  enter(env, device, op);
  if (!device->lt) raise(env, op, "LOWRANK_NO_BLAS", "cuBLASLt is not loaded");
  const Options o{env, op, info[1].As<Napi::Object>()};
  constexpr double kMax = 2147483647.0, kMaxStride = 1ull << 46;
  const double m = o.number("m", 0, 1, kMax), n = o.number("n", 0, 1, kMax), k = o.number("k", 0, 1, kMax);
  const bool transA = o.flag("transA"), transB = o.flag("transB");
  const int typeA = typeOf(o, "typeA"), typeB = typeOf(o, "typeB"), typeD = typeOf(o, "typeD");
  const double rowsA = transA ? k : m, colsA = transA ? m : k, rowsB = transB ? n : k, colsB = transB ? k : n;
  const double lda = o.number("lda", colsA, colsA, kMaxStride), ldb = o.number("ldb", colsB, colsB, kMaxStride),
               ldd = o.number("ldd", n, n, kMaxStride);
  const double batch = o.number("batch", 1, 1, kMax);
  const double strideA = o.number("strideA", 0, 0, kMaxStride), strideB = o.number("strideB", 0, 0, kMaxStride),
               strideD = o.number("strideD", 0, 0, kMaxStride);
  const double workspace = o.number("workspaceBytes", 0, 0, kMaxStride);
  const int candidates = static_cast<int>(o.number("candidates", 1, 1, 64));
  const uint32_t align = static_cast<uint32_t>(o.number("align", 16, 1, 256));
  if (batch > 1 && strideD < (m - 1) * ldd + n)
    raise(env, op, "LOWRANK_BAD_ARGUMENT", "batches of the result overlap");

  const CublasLt& lt = *device->lt;
  auto plan = std::make_unique<Plan>(device);
  const bool f8 = elementBytes(typeA) == 1 && typeA != CUDA_R_8I;
  char label[160];
  std::snprintf(label, sizeof label, "matmul %.0fx%.0fx%.0f%s%s types %d,%d,%d", m, n, k, transA ? " Ta" : "",
                transB ? " Tb" : "", typeA, typeB, typeD);
  plan->name = stateOf(env).intern(label);
  auto check = [&](cublasStatus status) {
    if (status != 0) raiseBlas(env, op, status, label);
  };
  const int compute = typeA == CUDA_R_8I ? CUBLAS_COMPUTE_32I
                      : o.flag("tf32")   ? CUBLAS_COMPUTE_32F_FAST_TF32
                                         : CUBLAS_COMPUTE_32F;
  check(lt.descCreate(&plan->desc, compute, typeA == CUDA_R_8I ? CUDA_R_32I : CUDA_R_32F));
  const int opA = transA ? CUBLAS_OP_T : CUBLAS_OP_N, opB = transB ? CUBLAS_OP_T : CUBLAS_OP_N;
  check(lt.descSet(plan->desc, LT_DESC_TRANSA, &opB, sizeof opB));
  check(lt.descSet(plan->desc, LT_DESC_TRANSB, &opA, sizeof opA));
  const CUdeviceptr placeholder = 16 * 1024;
  if (o.flag("bias")) {
    plan->bias = true;
    const int epilogue = LT_EPILOGUE_BIAS, biasType = typeOf(o, "typeBias");
    check(lt.descSet(plan->desc, LT_DESC_EPILOGUE, &epilogue, sizeof epilogue));
    check(lt.descSet(plan->desc, LT_DESC_BIAS_DATA_TYPE, &biasType, sizeof biasType));
    check(lt.descSet(plan->desc, LT_DESC_BIAS_POINTER, &placeholder, sizeof placeholder));
    plan->bytesBias = n * elementBytes(biasType);
  }
  if (f8) {
    // A scale for each row of A and each column of D (row of Bᵀ), or one for each tensor.
    plan->scaled = true;
    const bool rows = o.flag("rowScales");
    plan->bytesScaleA = rows ? m * 4 : 4;
    plan->bytesScaleB = rows ? n * 4 : 4;
    if (rows) {
      const int32_t mode = LT_SCALE_OUTER_VEC_32F;
      check(lt.descSet(plan->desc, LT_DESC_A_SCALE_MODE, &mode, sizeof mode));
      check(lt.descSet(plan->desc, LT_DESC_B_SCALE_MODE, &mode, sizeof mode));
    }
    check(lt.descSet(plan->desc, LT_DESC_A_SCALE_POINTER, &placeholder, sizeof placeholder));
    check(lt.descSet(plan->desc, LT_DESC_B_SCALE_POINTER, &placeholder, sizeof placeholder));
  }
  auto layout = [&](LtLayout* out, int type, double rows, double cols, double ld, double stride) {
    // Row-major rows × cols is column-major cols × rows.
    check(lt.layoutCreate(out, type, static_cast<uint64_t>(cols), static_cast<uint64_t>(rows), static_cast<int64_t>(ld)));
    if (batch > 1) {
      const int32_t count = static_cast<int32_t>(batch);
      const int64_t offset = static_cast<int64_t>(stride);
      check(lt.layoutSet(*out, LT_LAYOUT_BATCH_COUNT, &count, sizeof count));
      check(lt.layoutSet(*out, LT_LAYOUT_STRIDED_BATCH_OFFSET, &offset, sizeof offset));
    }
  };
  layout(&plan->a, typeA, rowsA, colsA, lda, strideA);
  layout(&plan->b, typeB, rowsB, colsB, ldb, strideB);
  layout(&plan->d, typeD, m, n, ldd, strideD);
  plan->bytesA = ((batch - 1) * strideA + (rowsA - 1) * lda + colsA) * elementBytes(typeA);
  plan->bytesB = ((batch - 1) * strideB + (rowsB - 1) * ldb + colsB) * elementBytes(typeB);
  plan->bytesD = ((batch - 1) * strideD + (m - 1) * ldd + n) * elementBytes(typeD);

  LtPreference preference = nullptr;
  check(lt.prefCreate(&preference));
  struct Guard {
    const CublasLt& lt;
    LtPreference p;
    ~Guard() { lt.prefDestroy(p); }
  } guard{lt, preference};
  const uint64_t space = static_cast<uint64_t>(workspace);
  const uint32_t reduction = LT_REDUCTION_DETERMINISTIC;
  check(lt.prefSet(preference, LT_PREF_MAX_WORKSPACE_BYTES, &space, sizeof space));
  check(lt.prefSet(preference, LT_PREF_REDUCTION_SCHEME_MASK, &reduction, sizeof reduction));
  for (int attribute = LT_PREF_MIN_ALIGNMENT_A_BYTES; attribute <= LT_PREF_MIN_ALIGNMENT_D_BYTES; attribute++)
    check(lt.prefSet(preference, attribute, &align, sizeof align));
  plan->algos.resize(static_cast<size_t>(candidates));
  int found = 0;
  const cublasStatus status = lt.heuristic(device->ltHandle, plan->desc, plan->b, plan->a, plan->d, plan->d, preference,
                                           candidates, plan->algos.data(), &found);
  plan->algos.resize(static_cast<size_t>(std::max(0, found)));
  plan->algos.erase(std::remove_if(plan->algos.begin(), plan->algos.end(), [](const LtHeuristic& h) { return h.state != 0; }),
                    plan->algos.end());
  if (status != 0 || plan->algos.empty()) raiseBlas(env, op, status ? status : 15, std::string("no algorithm for ") + label);

  Napi::Array algos = Napi::Array::New(env, plan->algos.size());
  for (size_t i = 0; i < plan->algos.size(); i++) {
    Napi::Object algo = Napi::Object::New(env);
    algo.Set("workspaceBytes", static_cast<double>(plan->algos[i].workspaceSize));
    algo.Set("waves", plan->algos[i].wavesCount);
    algos.Set(static_cast<uint32_t>(i), algo);
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("algos", algos);
  result.Set("handle", stateOf(env).handles.add(plan.release()));
  return result;
}

/** matmulChoose(plan, index): takes another of the plan's algorithms. */
Napi::Value matmulChoose(const Napi::CallbackInfo& info) {
  const char* op = "cuda.matmulChoose";
  Plan* plan = handleArg<Plan>(info, 0, op, "plan", Kind::Plan);
  plan->chosen = static_cast<size_t>(integerArg(info, 1, op, "index", 0, static_cast<double>(plan->algos.size()) - 1));
  return info.Env().Undefined();
}

/** matmulAlgo(plan): the chosen algorithm as 64 bytes, to be kept and given to matmulUse for the same shape and library. */
Napi::Value matmulAlgo(const Napi::CallbackInfo& info) {
  Plan* plan = handleArg<Plan>(info, 0, "cuda.matmulAlgo", "plan", Kind::Plan);
  Napi::Uint8Array bytes = Napi::Uint8Array::New(info.Env(), sizeof(LtAlgo));
  std::memcpy(bytes.Data(), &plan->algos[plan->chosen].algo, sizeof(LtAlgo));
  return bytes;
}

/** matmulUse(plan, bytes, workspaceBytes): takes a kept algorithm if the library still accepts it; says whether it did. */
Napi::Value matmulUse(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const char* op = "cuda.matmulUse";
  Plan* plan = handleArg<Plan>(info, 0, op, "plan", Kind::Plan);
  const Bytes bytes = bytesArg(info, 1, op, "algorithm");
  const double workspace = integerArg(info, 2, op, "workspaceBytes", 0, 9e15);
  if (bytes.size != sizeof(LtAlgo)) raise(env, op, "LOWRANK_BAD_ARGUMENT", "an algorithm has 64 bytes");
  Device* device = plan->device;
  enter(env, device, op);
  LtHeuristic h{};
  std::memcpy(&h.algo, bytes.data, sizeof(LtAlgo));
  LtHeuristic checked{};
  const cublasStatus status = device->lt->algoCheck(device->ltHandle, plan->desc, plan->b, plan->a, plan->d, plan->d,
                                                    &h.algo, &checked);
  if (status != 0 || checked.state != 0 || static_cast<double>(checked.workspaceSize) > workspace)
    return Napi::Boolean::New(env, false);
  h.workspaceSize = checked.workspaceSize;
  h.wavesCount = checked.wavesCount;
  plan->algos.push_back(h);
  plan->chosen = plan->algos.size() - 1;
  return Napi::Boolean::New(env, true);
}

}  // namespace

void exportMatmul(Napi::Env env, Napi::Object exports) {
  exports.Set("loadBlas", Napi::Function::New(env, loadBlas, "loadBlas"));
  exports.Set("matmulPlan", Napi::Function::New(env, matmulPlan, "matmulPlan"));
  exports.Set("matmulChoose", Napi::Function::New(env, matmulChoose, "matmulChoose"));
  exports.Set("matmulAlgo", Napi::Function::New(env, matmulAlgo, "matmulAlgo"));
  exports.Set("matmulUse", Napi::Function::New(env, matmulUse, "matmulUse"));
}

}  // namespace lowrank
