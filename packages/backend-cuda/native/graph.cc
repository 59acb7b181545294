#include "state.h"

namespace lowrank {

namespace {

/** captureBegin(stream): what is submitted from now on is kept, not run. */
Napi::Value captureBegin(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const char* op = "cuda.captureBegin";
  Stream* stream = handleArg<Stream>(info, 0, op, "stream", Kind::Stream);
  enter(env, stream->device, op);
  if (stream->capturing) raise(env, op, "LOWRANK_CAPTURING", "the stream is being recorded already");
  ok(env, stream->device, op, stream->device->cu().streamBeginCapture(stream->stream, CU_STREAM_CAPTURE_MODE_RELAXED));
  stream->capturing = true;
  stream->recorded.clear();
  stream->recordedComms.clear();
  return env.Undefined();
}

Stream* capturing(const Napi::CallbackInfo& info, const char* op) {
  Stream* stream = handleArg<Stream>(info, 0, op, "stream", Kind::Stream);
  enter(info.Env(), stream->device, op);
  if (!stream->capturing) raise(info.Env(), op, "LOWRANK_CAPTURING", "the stream is not being recorded");
  return stream;
}

/** captureEnd(stream, name): { handle, nodes } of a graph that graphLaunch repeats. */
Napi::Value captureEnd(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const char* op = "cuda.captureEnd";
  Stream* stream = capturing(info, op);
  const std::string name = stringArg(info, 1, op, "name");
  Device* device = stream->device;
  const Driver& cu = device->cu();
  CUgraph graph = nullptr;
  const CUresult ended = cu.streamEndCapture(stream->stream, &graph);
  stream->capturing = false;
  ok(env, device, op, ended);
  auto object = std::make_unique<Graph>(device);
  object->name = stateOf(env).intern(name);
  object->names = std::move(stream->recorded);
  object->comms = std::move(stream->recordedComms);
  CUresult r = cu.graphGetNodes(graph, nullptr, &object->nodes);
  if (r == CUDA_SUCCESS) r = cu.graphInstantiate(&object->exec, graph, 0);
  cu.graphDestroy(graph);
  ok(env, device, op, r, std::to_string(object->nodes) + " nodes");
  Napi::Object result = Napi::Object::New(env);
  result.Set("nodes", static_cast<double>(object->nodes));
  result.Set("handle", stateOf(env).handles.add(object.release()));
  return result;
}

/** captureAbort(stream): drops what was recorded. */
Napi::Value captureAbort(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Stream* stream = capturing(info, "cuda.captureAbort");
  CUgraph graph = nullptr;
  stream->device->cu().streamEndCapture(stream->stream, &graph);
  stream->capturing = false;
  if (graph) stream->device->cu().graphDestroy(graph);
  return env.Undefined();
}

/** graphLaunch(graph, stream) */
Napi::Value graphLaunch(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const char* op = "cuda.graphLaunch";
  Graph* graph = handleArg<Graph>(info, 0, op, "graph", Kind::Graph);
  Stream* stream = handleArg<Stream>(info, 1, op, "stream", Kind::Stream);
  if (graph->device != stream->device) raise(env, op, "LOWRANK_BAD_HANDLE", "graph and stream belong to two devices");
  enter(env, graph->device, op);
  if (stream->capturing) raise(env, op, "LOWRANK_CAPTURING", "the stream is being recorded");
  checkRecordedGroups(env, graph, op);
  noteProgress(graph->device, stream, 0);
  const CUresult r = graph->device->cu().graphLaunch(graph->exec, stream->stream);
  noteLaunch(graph->device, stream, graph->name, true);
  ok(env, graph->device, op, r, *graph->name);
  watchRecordedGroups(env, graph, stream, op);
  return env.Undefined();
}

}  // namespace

void exportGraph(Napi::Env env, Napi::Object exports) {
  exports.Set("captureBegin", Napi::Function::New(env, captureBegin, "captureBegin"));
  exports.Set("captureEnd", Napi::Function::New(env, captureEnd, "captureEnd"));
  exports.Set("captureAbort", Napi::Function::New(env, captureAbort, "captureAbort"));
  exports.Set("graphLaunch", Napi::Function::New(env, graphLaunch, "graphLaunch"));
}

}  // namespace lowrank
