// Each output is made by LANES invocations (a power of two), which walk the reduced elements in strides and then meet in a tree: the order
// of a sum depends on shapes alone. COLUMNS: neighbouring invocations take neighbouring outputs. With splits (z of the grid) each takes a
// range of the reduced elements, and y is [splits, outputs]. OP: sum, sumSquares, max, min, argmax. VALUE: f32, i32 or u32.
#include "common/wgsl/numbers.wgsl"
#include "common/wgsl/operand.wgsl" (N = x)
#include "common/wgsl/operand.wgsl" (N = y)

struct Params {
  kept: vec4<u32>,
  kept_strides: vec4<u32>,
  y_strides: vec4<u32>,
  reduced: vec4<u32>,
  reduced_strides: vec4<u32>,
  x_offset: u32,
  y_offset: u32,
  outputs: u32,
  count: u32,
  // Reduced elements a split, and the distance of splits in y.
  range: u32,
  split_stride: u32,
}
@group(0) @binding(0) var<uniform> P: Params;

const lanes = $(LANES)u;
const outputs_a_group = 256u / lanes;
alias Value = $(VALUE);
var<workgroup> values: array<Value, 256>;
#if OP == argmax
var<workgroup> places: array<u32, 256>;
#endif

fn axes(i: u32, shape: vec4<u32>) -> vec4<u32> {
  let z = i / shape.w;
  let y = z / shape.z;
  return vec4<u32>(y / shape.y, y % shape.y, z % shape.z, i % shape.w);
}

fn nothing() -> Value {
#if OP == max || OP == argmax
#if VALUE == f32
  return -infinity();
#elif VALUE == i32
  return i32(-0x7fffffff - 1);
#else
  return 0u;
#endif
#elif OP == min
#if VALUE == f32
  return infinity();
#elif VALUE == i32
  return 0x7fffffff;
#else
  return 0xffffffffu;
#endif
#else
  return Value(0);
#endif
}

fn join(a: Value, b: Value) -> Value {
#if OP == max || OP == min
#if VALUE == f32
  return select(select($(OP)(a, b), b, is_nan(b)), a, is_nan(a));
#else
  return $(OP)(a, b);
#endif
#else
  return a + b;
#endif
}

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) id: u32,
) {
#if COLUMNS
  let slot = id % outputs_a_group;
  let lane = id / outputs_a_group;
  let stride = outputs_a_group;
#else
  let slot = id / lanes;
  let lane = id % lanes;
  let stride = 1u;
#endif
  let output = group_number(group, groups) * outputs_a_group + slot;
  let real = output < P.outputs;
  let at = axes(output, P.kept);
  let base = P.x_offset + dot(at, P.kept_strides);
  let first = group.z * P.range;
  let to = select(first, min(P.count, first + P.range), real);
  var value = nothing();
#if OP == argmax
  var place = 0xffffffffu;
#endif
  for (var i = first + lane; i < to; i += lanes) {
    let v = Value(x_load(base + dot(axes(i, P.reduced), P.reduced_strides)));
#if OP == argmax
    // NaN is never larger; as the first element nothing is larger than it.
    let key = select(v, infinity(), is_nan(v));
    if (!is_nan(v) || i == 0u) && (key > value || place == 0xffffffffu) {
      value = key;
      place = i;
    }
#elif OP == sumSquares
    value += v * v;
#else
    value = join(value, v);
#endif
  }
  values[id] = value;
#if OP == argmax
  places[id] = place;
#endif
  for (var half = lanes / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if lane < half {
      let other = id + half * stride;
#if OP == argmax
      let further = values[other] > values[id] || (values[other] == values[id] && places[other] < places[id]) || places[id] == 0xffffffffu;
      if further && places[other] != 0xffffffffu {
        values[id] = values[other];
        places[id] = places[other];
      }
#else
      values[id] = join(values[id], values[other]);
#endif
    }
  }
  if real && lane == 0u {
    let place_in_y = P.y_offset + dot(at, P.y_strides) + group.z * P.split_stride;
#if OP == argmax
    y_store(place_in_y, i32(places[id]));
#else
    y_store(place_in_y, y_t(values[id]));
#endif
  }
}
