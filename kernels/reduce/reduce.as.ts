// Reductions over any axes. Sums: f32 lanes inside a piece of 1,024, f64 across pieces, so the order depends on shapes alone.
import { PIECE, at, flush, input, isFloatType, loadOne, output, rowAt, rowOffset, scratchRow, storeOne } from '../common/wasm/rows.as';
import { F32, I32, U8, hmax, hmin, hsum } from '../common/wasm/simd.as';

const SUM: i32 = 0;
const SQUARES: i32 = 1;
const MAX: i32 = 2;
const MIN: i32 = 3;

/** Rows added in f32 before they are added to the total: keeps long sums over leading axes accurate. */
const GROUP: i32 = 64;

function sumPiece(p: usize, n: i32): f32 {
  let a = f32x4.splat(0);
  let b = f32x4.splat(0);
  let c = f32x4.splat(0);
  let d = f32x4.splat(0);
  let i = 0;
  for (; i + 16 <= n; i += 16) {
    a = f32x4.add(a, v128.load(p));
    b = f32x4.add(b, v128.load(p, 16));
    c = f32x4.add(c, v128.load(p, 32));
    d = f32x4.add(d, v128.load(p, 48));
    p += 64;
  }
  let s = hsum(f32x4.add(f32x4.add(a, b), f32x4.add(c, d)));
  for (; i < n; i++) {
    s += load<f32>(p);
    p += 4;
  }
  return s;
}

export function sumSquaresPiece(p: usize, n: i32): f32 {
  let a = f32x4.splat(0);
  let b = f32x4.splat(0);
  let c = f32x4.splat(0);
  let d = f32x4.splat(0);
  let i = 0;
  for (; i + 16 <= n; i += 16) {
    const w = v128.load(p);
    const x = v128.load(p, 16);
    const y = v128.load(p, 32);
    const z = v128.load(p, 48);
    a = f32x4.add(a, f32x4.mul(w, w));
    b = f32x4.add(b, f32x4.mul(x, x));
    c = f32x4.add(c, f32x4.mul(y, y));
    d = f32x4.add(d, f32x4.mul(z, z));
    p += 64;
  }
  let s = hsum(f32x4.add(f32x4.add(a, b), f32x4.add(c, d)));
  for (; i < n; i++) {
    const v = load<f32>(p);
    s += v * v;
    p += 4;
  }
  return s;
}

export function maxPiece(p: usize, n: i32): f32 {
  let m = f32x4.splat(-Infinity);
  let i = 0;
  for (; i + 4 <= n; i += 4) {
    m = f32x4.max(m, v128.load(p));
    p += 16;
  }
  let s = hmax(m);
  for (; i < n; i++) {
    s = max<f32>(s, load<f32>(p));
    p += 4;
  }
  return s;
}

function minPiece(p: usize, n: i32): f32 {
  let m = f32x4.splat(Infinity);
  let i = 0;
  for (; i + 4 <= n; i += 4) {
    m = f32x4.min(m, v128.load(p));
    p += 16;
  }
  let s = hmin(m);
  for (; i < n; i++) {
    s = min<f32>(s, load<f32>(p));
    p += 4;
  }
  return s;
}

/**
 * y[u] for u in begin…end: reduces, for each of `outer` reduced rows, n elements of step `xStep`. Leading kept axes in `desc` (x 0, y 1),
 * leading reduced axes in `reduced` (x 0). Floats.
 */
export function reduceInner(
  op: i32, x: usize, xType: i32, xStep: i32, n: i32, outer: i32, y: usize, yType: i32, desc: usize, reduced: usize, begin: i32, end: i32,
): void {
  for (let u = begin; u < end; u++) {
    const xu = rowAt(x, xType, desc, 0, u);
    let total: f64 = 0;
    let extreme: f32 = op == MAX ? -Infinity : Infinity;
    for (let r = 0; r < outer; r++) {
      const xr = at(xu, xType, rowOffset(reduced, 0, r));
      for (let o = 0; o < n; o += PIECE) {
        const m = min<i32>(PIECE, n - o);
        const p = input(xType, at(xr, xType, o * xStep), xStep, m, scratchRow(0));
        if (op == SUM) total += <f64>sumPiece(p, m);
        else if (op == SQUARES) total += <f64>sumSquaresPiece(p, m);
        else if (op == MAX) extreme = max<f32>(extreme, maxPiece(p, m));
        else extreme = min<f32>(extreme, minPiece(p, m));
      }
    }
    storeOne(yType, rowAt(y, yType, desc, 1, u), op <= SQUARES ? <f32>total : extreme);
  }
}

/**
 * The kept axis is the one along which elements lie together: units are chunks of `chunk` (at most PIECE) elements of kept rows;
 * `outer` reduced rows are combined elementwise.
 */
export function reduceOuter(
  op: i32, x: usize, xType: i32, xStep: i32, n: i32, chunk: i32, outer: i32, y: usize, yType: i32, yStep: i32, desc: usize, reduced: usize,
  begin: i32, end: i32,
): void {
  const chunks = (n + chunk - 1) / chunk;
  const temp = scratchRow(0);
  const group = scratchRow(1);
  for (let unit = begin; unit < end; unit++) {
    const row = unit / chunks;
    const o = (unit % chunks) * chunk;
    const m = min<i32>(chunk, n - o);
    const xu = at(rowAt(x, xType, desc, 0, row), xType, o * xStep);
    const yp = at(rowAt(y, yType, desc, 1, row), yType, o * yStep);
    const acc = output(yType, yp, yStep, scratchRow(2));
    const start: f32 = op <= SQUARES ? 0 : op == MAX ? -Infinity : Infinity;
    for (let i = 0; i < m; i++) store<f32>(acc + (<usize>i << 2), start);
    for (let r0 = 0; r0 < outer; r0 += GROUP) {
      const r1 = min<i32>(outer, r0 + GROUP);
      const sum = op <= SQUARES;
      const into = sum ? group : acc;
      if (sum) memory.fill(group, 0, <usize>m << 2);
      for (let r = r0; r < r1; r++) {
        const p = input(xType, at(xu, xType, rowOffset(reduced, 0, r)), xStep, m, temp);
        combine(op, into, p, m);
      }
      if (sum) combine(SUM, acc, group, m);
    }
    flush(yType, yp, yStep, acc, m);
  }
}

function combine(op: i32, acc: usize, p: usize, n: i32): void {
  let i = 0;
  for (; i + 4 <= n; i += 4) {
    const q = <usize>i << 2;
    const v = v128.load(p + q);
    let a = v128.load(acc + q);
    if (op == SUM) a = f32x4.add(a, v);
    else if (op == SQUARES) a = f32x4.add(a, f32x4.mul(v, v));
    else if (op == MAX) a = f32x4.max(a, v);
    else a = f32x4.min(a, v);
    v128.store(acc + q, a);
  }
  for (; i < n; i++) {
    const q = <usize>i << 2;
    const v = load<f32>(p + q);
    let a = load<f32>(acc + q);
    if (op == SUM) a += v;
    else if (op == SQUARES) a += v * v;
    else if (op == MAX) a = max<f32>(a, v);
    else a = min<f32>(a, v);
    store<f32>(acc + q, a);
  }
}

/** The same as `reduceInner` for integers: sums keep the low bits. */
export function reduceInts(
  op: i32, x: usize, type: i32, xStep: i32, n: i32, outer: i32, y: usize, desc: usize, reduced: usize, begin: i32, end: i32,
): void {
  for (let u = begin; u < end; u++) {
    const xu = rowAt(x, type, desc, 0, u);
    let total: i64 = op == MAX ? i64.MIN_VALUE : op == MIN ? i64.MAX_VALUE : 0;
    for (let r = 0; r < outer; r++) {
      const xr = at(xu, type, rowOffset(reduced, 0, r));
      for (let i = 0; i < n; i++) {
        const p = at(xr, type, i * xStep);
        const v: i64 = type == I32 ? <i64>load<i32>(p) : type == U8 ? <i64>load<u8>(p) : <i64>load<u32>(p);
        if (op == SUM) total += v;
        else if (op == MAX) total = v > total ? v : total;
        else total = v < total ? v : total;
      }
    }
    const yp = rowAt(y, type, desc, 1, u);
    if (type == U8) store<u8>(yp, <u8>total);
    else store<i32>(yp, <i32>total);
  }
}

/** y[u] (i32) = first index of the largest of n elements; a NaN wins only in the first place. */
export function argmax(x: usize, xType: i32, xStep: i32, n: i32, y: usize, desc: usize, begin: i32, end: i32): void {
  for (let u = begin; u < end; u++) {
    const xu = rowAt(x, xType, desc, 0, u);
    let best: f32 = loadOne(xType, xu);
    let index = 0;
    for (let i = 1; i < n && best == best; i++) {
      const v = loadOne(xType, at(xu, xType, i * xStep));
      if (v > best) {
        best = v;
        index = i;
      }
    }
    store<i32>(rowAt(y, F32, desc, 1, u), index);
  }
}
