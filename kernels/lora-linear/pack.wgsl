// Matrices of the pairs of a group, up to three, in one of f16: pair i times its scale from row `row0` and column `column0` on, zeros where there is
// none. An invocation makes eight numbers of a row, y's vector of them; pairs start and end at multiples of eight columns.
#include "common/wgsl/numbers.wgsl"
#include "common/wgsl/operand.wgsl" (N = y)
#for i in 0..$(PAIRS)
#include "common/wgsl/operand.wgsl" (N = p$(i))
#endfor

struct Pair {
  row0: u32,
  rows: u32,
  column0: u32,
  columns: u32,
  offset: u32,
  row: u32,
  column: u32,
  scale: f32,
}
struct Params {
  pairs: array<Pair, 3>,
  rows: u32,
  // Vectors of eight in a row.
  vectors: u32,
}
@group(0) @binding(0) var<uniform> P: Params;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group.x * 256u + lane;
  if i >= P.rows * P.vectors {
    return;
  }
  let row = i / P.vectors;
  let column = i % P.vectors * 8u;
  var v: array<f32, 8>;
#for i in 0..$(PAIRS)
  {
    let one = P.pairs[$(i)];
    if row - one.row0 < one.rows && column - one.column0 < one.columns {
      let at = one.offset + (row - one.row0) * one.row + (column - one.column0) * one.column;
      for (var e = 0u; e < 8u; e++) {
        v[e] = one.scale * p$(i)_load(at + e * one.column);
      }
    }
  }
#endfor
  $(y_BUFFER)[i] = vec4<u32>(
    pack2x16float(vec2<f32>(v[0], v[1])),
    pack2x16float(vec2<f32>(v[2], v[3])),
    pack2x16float(vec2<f32>(v[4], v[5])),
    pack2x16float(vec2<f32>(v[6], v[7])),
  );
}
