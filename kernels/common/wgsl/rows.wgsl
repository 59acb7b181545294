// A workgroup of WIDTH invocations for each row: the last axis, which may have any stride. Sums and maxima over a row meet in a tree, in
// an order that depends on the row's length alone. PACK: elements of y that an invocation stores at once (2: whole words).
#include "common/wgsl/numbers.wgsl"
#include "common/wgsl/strided.wgsl"

const row_width = $(WIDTH)u;
var<workgroup> meeting: array<f32, row_width>;

// Where the row starts.
fn locate_row(row: u32) -> At {
  let z = row / P.shape.z;
  return locate_axes(row, vec4<u32>(z / P.shape.y, z % P.shape.y, row % P.shape.z, 0u));
}

// Σ over the workgroup, for every invocation.
fn row_sum(lane: u32, own: f32) -> f32 {
  workgroupBarrier();
  meeting[lane] = own;
  for (var half = row_width / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if lane < half {
      meeting[lane] += meeting[lane + half];
    }
  }
  workgroupBarrier();
  return meeting[0];
}

// The largest over the workgroup, for every invocation; NaN is passed over.
fn row_max(lane: u32, own: f32) -> f32 {
  workgroupBarrier();
  meeting[lane] = own;
  for (var half = row_width / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if lane < half {
      meeting[lane] = max(meeting[lane], meeting[lane + half]);
    }
  }
  workgroupBarrier();
  return meeting[0];
}
