// y = op(a, b) over rows of any element type; floats in f32, integers in their own width. Op numbers are those of `binaryIds` in backend-cpu.
import { pow32 } from '../common/wasm/math.as';
import { PIECE, at, flush, input, isFloatType, loadInts, output, rowAt, scratchRow, storeInts } from '../common/wasm/rows.as';
import { I32, storeLanes } from '../common/wasm/simd.as';

/** First comparison; from here on the result is u8. */
const COMPARE: i32 = 7;

@inline
function apply(op: i32, a: v128, b: v128): v128 {
  if (op == 0) return f32x4.add(a, b);
  if (op == 1) return f32x4.sub(a, b);
  if (op == 2) return f32x4.mul(a, b);
  if (op == 3) return f32x4.div(a, b);
  if (op == 4) return f32x4.max(a, b);
  return f32x4.min(a, b);
}

@inline
function run(op: i32, dst: usize, a: usize, b: usize, n: i32): void {
  let i = 0;
  for (; i + 4 <= n; i += 4) v128.store(dst + (<usize>i << 2), apply(op, v128.load(a + (<usize>i << 2)), v128.load(b + (<usize>i << 2))));
  if (i < n) storeLanes(dst + (<usize>i << 2), apply(op, v128.load(a + (<usize>i << 2)), v128.load(b + (<usize>i << 2))), n - i);
}

function arithmetic(op: i32, dst: usize, a: usize, b: usize, n: i32): void {
  switch (op) {
    case 0: run(0, dst, a, b, n); break;
    case 1: run(1, dst, a, b, n); break;
    case 2: run(2, dst, a, b, n); break;
    case 3: run(3, dst, a, b, n); break;
    case 4: run(4, dst, a, b, n); break;
    case 5: run(5, dst, a, b, n); break;
    case 6:
      for (let i = 0; i < n; i++) {
        const o = <usize>i << 2;
        store<f32>(dst + o, pow32(load<f32>(a + o), load<f32>(b + o)));
      }
      break;
    default: unreachable();
  }
}

function compareFloats(op: i32, y: usize, step: i32, a: usize, b: usize, n: i32): void {
  for (let i = 0; i < n; i++) {
    const u = load<f32>(a + (<usize>i << 2));
    const v = load<f32>(b + (<usize>i << 2));
    let r: bool;
    if (op == 7) r = u == v;
    else if (op == 8) r = u != v;
    else if (op == 9) r = u < v;
    else if (op == 10) r = u <= v;
    else if (op == 11) r = u > v;
    else r = u >= v;
    store<u8>(y, <u8>r);
    y += <usize>step;
  }
}

/** Integers as i64, so that signed and unsigned compare rightly; the low bits are kept. Division by zero gives 0. */
function integers(op: i32, signed: bool, dst: usize, a: usize, b: usize, n: i32): void {
  for (let i = 0; i < n; i++) {
    const o = <usize>i << 2;
    const u: i64 = signed ? <i64>load<i32>(a + o) : <i64>load<u32>(a + o);
    const v: i64 = signed ? <i64>load<i32>(b + o) : <i64>load<u32>(b + o);
    let r: i64 = 0;
    switch (op) {
      case 0: r = u + v; break;
      case 1: r = u - v; break;
      case 2: r = u * v; break;
      case 3: r = v == 0 ? 0 : u / v; break;
      case 4: r = u > v ? u : v; break;
      case 5: r = u < v ? u : v; break;
      case 6: r = powInt(u, v); break;
      case 7: r = u == v ? 1 : 0; break;
      case 8: r = u != v ? 1 : 0; break;
      case 9: r = u < v ? 1 : 0; break;
      case 10: r = u <= v ? 1 : 0; break;
      case 11: r = u > v ? 1 : 0; break;
      case 12: r = u >= v ? 1 : 0; break;
      case 13: r = u & v; break;
      case 14: r = u | v; break;
      case 15: r = <i64>(<u32>u >>> (<u32>v & 31)); break;
      case 16: r = <i64>(<u32>u << (<u32>v & 31)); break;
      default: unreachable();
    }
    store<i32>(dst + o, <i32>r);
  }
}

function powInt(u: i64, v: i64): i64 {
  if (v < 0) return u == 1 ? 1 : u == -1 ? (v & 1 ? -1 : 1) : 0;
  let r: i64 = 1;
  while (v > 0) {
    if (v & 1) r *= u;
    u *= u;
    v >>= 1;
  }
  return r;
}

/** Units `begin`…`end` of rows cut into chunks. a, b and y are operands 0, 1 and 2 of `desc`; a and b have one type. */
export function binary(
  op: i32, type: i32, a: usize, aStep: i32, b: usize, bStep: i32, y: usize, yType: i32, yStep: i32, n: i32, chunk: i32, desc: usize, begin: i32, end: i32,
): void {
  const chunks = (n + chunk - 1) / chunk;
  for (let unit = begin; unit < end; unit++) {
    const row = unit / chunks;
    const from = (unit % chunks) * chunk;
    const to = min<i32>(n, from + chunk);
    const ar = rowAt(a, type, desc, 0, row);
    const br = rowAt(b, type, desc, 1, row);
    const yr = rowAt(y, yType, desc, 2, row);
    for (let o = from; o < to; o += PIECE) {
      const m = min<i32>(PIECE, to - o);
      const ap = at(ar, type, o * aStep);
      const bp = at(br, type, o * bStep);
      const yp = at(yr, yType, o * yStep);
      if (isFloatType(type)) {
        const u = input(type, ap, aStep, m, scratchRow(0));
        const v = input(type, bp, bStep, m, scratchRow(1));
        if (op >= COMPARE) compareFloats(op, yp, yStep, u, v, m);
        else {
          const dst = output(yType, yp, yStep, scratchRow(2));
          arithmetic(op, dst, u, v, m);
          flush(yType, yp, yStep, dst, m);
        }
      } else {
        loadInts(scratchRow(0), type, ap, aStep, m);
        loadInts(scratchRow(1), type, bp, bStep, m);
        integers(op, type == I32, scratchRow(2), scratchRow(0), scratchRow(1), m);
        storeInts(yType, yp, yStep, scratchRow(2), m);
      }
    }
  }
}
