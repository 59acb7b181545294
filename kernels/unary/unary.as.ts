// y = op(x) in f32 over rows of any element type. Op numbers are those of `unaryIds` in backend-cpu.
import { cos32, sin32, vexp, vlog, vsigmoid, vsilu, vtanh } from '../common/wasm/math.as';
import { PIECE, at, flush, input, isFloatType, loadInts, output, rowAt, scratchRow, storeInts } from '../common/wasm/rows.as';
import { I32, U8, storeLanes } from '../common/wasm/simd.as';

@inline
function apply(op: i32, x: v128, p: v128, q: v128): v128 {
  if (op == 0) return f32x4.add(f32x4.mul(x, p), q);
  if (op == 1) return f32x4.neg(x);
  if (op == 2) return f32x4.abs(x);
  if (op == 3) {
    const zero = f32x4.splat(0);
    const one = f32x4.splat(1);
    const s = v128.bitselect(one, v128.bitselect(f32x4.splat(-1), x, f32x4.lt(x, zero)), f32x4.gt(x, zero));
    return s;
  }
  if (op == 4) return f32x4.floor(x);
  if (op == 5) return vexp(x);
  if (op == 6) return vlog(x);
  if (op == 7) return f32x4.sqrt(x);
  if (op == 8) return f32x4.div(f32x4.splat(1), f32x4.sqrt(x));
  if (op == 9) return f32x4.div(f32x4.splat(1), x);
  if (op == 10) return f32x4.mul(x, x);
  if (op == 11) return vtanh(x);
  if (op == 12) return vsigmoid(x);
  if (op == 13) return vsilu(x);
  if (op == 14) {
    // NaN stays.
    return v128.andnot(x, f32x4.le(x, f32x4.splat(0)));
  }
  // clamp: NaN stays
  return v128.bitselect(p, v128.bitselect(q, x, f32x4.gt(x, q)), f32x4.lt(x, p));
}

@inline
function run(op: i32, dst: usize, src: usize, n: i32, p: f32, q: f32): void {
  const vp = f32x4.splat(p);
  const vq = f32x4.splat(q);
  let i = 0;
  for (; i + 4 <= n; i += 4) v128.store(dst + (<usize>i << 2), apply(op, v128.load(src + (<usize>i << 2)), vp, vq));
  if (i < n) storeLanes(dst + (<usize>i << 2), apply(op, v128.load(src + (<usize>i << 2)), vp, vq), n - i);
}

function runAll(op: i32, dst: usize, src: usize, n: i32, p: f32, q: f32): void {
  switch (op) {
    case 0: run(0, dst, src, n, p, q); break;
    case 1: run(1, dst, src, n, p, q); break;
    case 2: run(2, dst, src, n, p, q); break;
    case 3: run(3, dst, src, n, p, q); break;
    case 4: run(4, dst, src, n, p, q); break;
    case 5: run(5, dst, src, n, p, q); break;
    case 6: run(6, dst, src, n, p, q); break;
    case 7: run(7, dst, src, n, p, q); break;
    case 8: run(8, dst, src, n, p, q); break;
    case 9: run(9, dst, src, n, p, q); break;
    case 10: run(10, dst, src, n, p, q); break;
    case 11: run(11, dst, src, n, p, q); break;
    case 12: run(12, dst, src, n, p, q); break;
    case 13: run(13, dst, src, n, p, q); break;
    case 14: run(14, dst, src, n, p, q); break;
    case 15: run(15, dst, src, n, p, q); break;
    case 16:
      for (let i = 0; i < n; i++) store<f32>(dst + (<usize>i << 2), sin32(load<f32>(src + (<usize>i << 2))));
      break;
    case 17:
      for (let i = 0; i < n; i++) store<f32>(dst + (<usize>i << 2), cos32(load<f32>(src + (<usize>i << 2))));
      break;
    default: unreachable();
  }
}

/** Integers: exact in f64, then truncated and saturated. */
function runInts(op: i32, type: i32, dst: usize, src: usize, n: i32, p: f64, q: f64): void {
  for (let i = 0; i < n; i++) {
    const bits = load<i32>(src + (<usize>i << 2));
    const x: f64 = type == I32 ? <f64>bits : <f64>(<u32>bits);
    let y: f64 = x;
    if (op == 0) y = x * p + q;
    else if (op == 1) y = -x;
    else if (op == 2) y = abs<f64>(x);
    else if (op == 3) y = x > 0 ? 1 : x < 0 ? -1 : 0;
    else if (op == 10) y = x * x;
    const to = dst + (<usize>i << 2);
    if (type == I32) store<i32>(to, <i32>y);
    else {
      const u = <u32>y;
      store<u32>(to, type == U8 && u > 255 ? 255 : u);
    }
  }
}

/**
 * Units `begin`…`end` of rows cut into chunks of `chunk` elements. x and y have steps along the row and leading strides 0 and 1 of `desc`;
 * p and q are the op's parameters.
 */
export function unary(
  op: i32, x: usize, xType: i32, xStep: i32, y: usize, yType: i32, yStep: i32, n: i32, chunk: i32, desc: usize, p: f64, q: f64, begin: i32, end: i32,
): void {
  const chunks = (n + chunk - 1) / chunk;
  for (let unit = begin; unit < end; unit++) {
    const row = unit / chunks;
    const from = (unit % chunks) * chunk;
    const to = min<i32>(n, from + chunk);
    const xr = rowAt(x, xType, desc, 0, row);
    const yr = rowAt(y, yType, desc, 1, row);
    for (let o = from; o < to; o += PIECE) {
      const m = min<i32>(PIECE, to - o);
      const xp = at(xr, xType, o * xStep);
      const yp = at(yr, yType, o * yStep);
      if (isFloatType(xType)) {
        const dst = output(yType, yp, yStep, scratchRow(1));
        runAll(op, dst, input(xType, xp, xStep, m, scratchRow(0)), m, <f32>p, <f32>q);
        flush(yType, yp, yStep, dst, m);
      } else {
        loadInts(scratchRow(0), xType, xp, xStep, m);
        runInts(op, xType, scratchRow(0), scratchRow(0), m, p, q);
        storeInts(yType, yp, yStep, scratchRow(0), m);
      }
    }
  }
}
