// Which keys a query of attention sees, and the keys that any query of a workgroup sees. STARTS, ENDS: whether there are such operands;
// CAUSAL.
#if STARTS
#include "common/wgsl/operand.wgsl" (N = starts)
#endif
#if ENDS
#include "common/wgsl/operand.wgsl" (N = ends)
#endif

var<workgroup> low_key: atomic<i32>;
var<workgroup> high_key: atomic<i32>;
var<workgroup> key_range: vec2<u32>;

// The first key that a query sees, and one past the last.
fn visible(batch: u32, query: u32, queries: u32, keys: u32) -> vec2<i32> {
  var first = 0;
  var last = i32(keys);
#if STARTS
  first = max(first, starts_load(P.starts_offset + batch * P.starts_strides.x + query * P.starts_strides.y));
#endif
#if ENDS
  last = min(last, ends_load(P.ends_offset + batch * P.ends_strides.x + query * P.ends_strides.y));
#endif
#if CAUSAL
  last = min(last, i32(query + keys + 1u) - i32(queries));
#endif
  return vec2<i32>(first, max(first, last));
}

// Empties the workgroup's range.
fn clear_range(id: u32) {
  if id == 0u {
    atomicStore(&low_key, 0);
    atomicStore(&high_key, 0);
  }
  workgroupBarrier();
}

// Takes what one query sees into the workgroup's range. The lower end counts down from the largest integer.
fn widen(seen: vec2<i32>) {
  if seen.x < seen.y {
    atomicMax(&low_key, 0x7fffffff - seen.x);
    atomicMax(&high_key, seen.y);
  }
}

// The range for every invocation, after all have called `widen`.
fn widest(id: u32) -> vec2<u32> {
  workgroupBarrier();
  if id == 0u {
    let high = atomicLoad(&high_key);
    key_range = vec2<u32>(select(0u, u32(0x7fffffff - atomicLoad(&low_key)), high > 0), u32(high));
  }
  return workgroupUniformLoad(&key_range);
}
