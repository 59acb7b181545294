// Attention by tiles of 96 queries × 64 keys with the softmax carried along (Dao et al. 2022). The scores of a tile live in scratch only.
import { widen } from '../common/wasm/convert.as';
import { log64, vexp } from '../common/wasm/math.as';
import { at, storeRow } from '../common/wasm/rows.as';
import { scratch } from '../common/wasm/runtime.as';
import { F32, I32, hmax, hsum } from '../common/wasm/simd.as';
import { MR, NR, packColumns8, packRows6, packRows8, paddedDepth, tile6x8 } from '../common/wasm/tile.as';

export const TILE_Q: i32 = 96;
export const TILE_K: i32 = 64;
/** Widest head. */
export const MAX_D: i32 = 256;

const LIMITS: usize = 0;
/** Of each panel of six queries: smallest start and largest end. */
const PANELS: usize = LIMITS + <usize>(TILE_Q * 8);
const STATE: usize = PANELS + <usize>(TILE_Q * 8);
const SCORES: usize = STATE + <usize>(TILE_Q * 8);
const PACK_P: usize = SCORES + <usize>(TILE_Q * TILE_K * 4);
const PACK_Q: usize = PACK_P + <usize>(TILE_Q * (TILE_K + 2) * 4);
const PACK_B: usize = PACK_Q + <usize>(TILE_Q * MAX_D * 4);
const ACC: usize = PACK_B + <usize>((MAX_D + TILE_K) * NR * 4);
const WIDE_K: usize = ACC + <usize>(TILE_Q * MAX_D * 4);
const WIDE_V: usize = WIDE_K + <usize>(TILE_Q * MAX_D * 4);

/** Rows of queries of one unit of work. */
export function attentionTile(): i32 {
  return TILE_Q;
}

/**
 * Writes for each of `rows` queries from q0 the range of keys it sees as two i32 at `limits`; returns (largest end << 32 | smallest start),
 * over the queries that see a key at all.
 */
export function keyRanges(
  limits: usize, starts: usize, ends: usize, b: i32, sB: i32, sT: i32, eB: i32, eT: i32, q0: i32, rows: i32, Tq: i32, Tk: i32, causal: bool,
): u64 {
  let least = Tk;
  let most = 0;
  for (let i = 0; i < rows; i++) {
    const q = q0 + i;
    let lo = starts ? max<i32>(0, load<i32>(at(starts, I32, b * sB + q * sT))) : 0;
    let hi = ends ? min<i32>(Tk, load<i32>(at(ends, I32, b * eB + q * eT))) : Tk;
    if (causal) hi = min<i32>(hi, q + Tk - Tq + 1);
    if (hi <= lo) {
      lo = 0;
      hi = 0;
    } else {
      least = min<i32>(least, lo);
      most = max<i32>(most, hi);
    }
    store<i32>(limits + (<usize>i << 3), lo);
    store<i32>(limits + (<usize>i << 3), hi, 4);
  }
  return (<u64>most << 32) | <u64>least;
}

/** Brings `limits` of rows together for each panel of six at `panels`: a panel that sees no key has start 2³¹ − 1 and end 0. */
export function panelRanges(panels: usize, limits: usize, rows: i32): void {
  for (let i = 0; i < rows; i += MR) {
    let least = i32.MAX_VALUE;
    let most = 0;
    for (let r = i; r < min<i32>(rows, i + MR); r++) {
      const lo = load<i32>(limits + (<usize>r << 3));
      const hi = load<i32>(limits + (<usize>r << 3), 4);
      if (hi > lo) {
        least = min<i32>(least, lo);
        most = max<i32>(most, hi);
      }
    }
    const to = panels + (<usize>(i / MR) << 3);
    store<i32>(to, least);
    store<i32>(to, most, 4);
  }
}

/** Products of the row panels that see any of the keys key…key + 7 with the panel of columns at `b`; others stay as they are. */
export function scoreColumn(
  a: usize, panelBytes: usize, b: usize, depth: i32, c: usize, alpha: f32, rows: i32, panels: usize, key: i32,
): void {
  for (let i = 0; i < rows; i += MR) {
    if (load<i32>(panels) < key + NR && load<i32>(panels, 4) > key) tile6x8(a, b, depth, c, TILE_K * 4, alpha, false);
    panels += 8;
    a += panelBytes;
    c += MR * TILE_K * 4;
  }
}

/** Keys of a tile from k0 that a panel needs: up to its largest end. */
@inline
export function keysOf(panels: usize, panel: i32, k0: i32, keys: i32): i32 {
  return max<i32>(0, min<i32>(keys, load<i32>(panels + (<usize>panel << 3), 4) - k0));
}

/**
 * acc[rows, D] += alpha · T·B, where T [rows, TILE_K] is a tile of weights (0 where a row does not see a key) and row k of B lies at b + k·stride.
 * Each panel of rows stops at the last key that it sees.
 */
export function addWeighted(
  tile: usize, keys: i32, rows: i32, panels: usize, k0: i32, b: usize, stride: usize, D: i32, acc: usize, ld: usize, alpha: f32, pack: usize, packB: usize,
): void {
  const panelBytes = <usize>((TILE_K + 2) * MR * 4);
  for (let i = 0; i < rows; i += MR) {
    const n = keysOf(panels, i / MR, k0, keys);
    if (n > 0) packRows6(pack + <usize>(i / MR) * panelBytes, tile + <usize>(i * TILE_K * 4), TILE_K * 4, min<i32>(MR, rows - i), n);
  }
  for (let d = 0; d < D; d += NR) {
    packColumns8(packB, b + (<usize>d << 2), stride, min<i32>(NR, D - d), keys);
    for (let i = 0; i < rows; i += MR) {
      const n = keysOf(panels, i / MR, k0, keys);
      if (n > 0) tile6x8(pack + <usize>(i / MR) * panelBytes, packB, paddedDepth(n), acc + <usize>i * ld + (<usize>d << 2), ld, alpha, true);
    }
  }
}

/** Rows of any float type as f32: themselves, or a dense copy of row length D at `temp`. */
@inline
export function asF32(type: i32, p: usize, stride: i32, rows: i32, D: i32, temp: usize): usize {
  if (type == F32) return p;
  for (let r = 0; r < rows; r++) widen(type, temp + (<usize>(r * D) << 2), p + (<usize>(r * stride) << 1), D);
  return temp;
}

/** One row of a tile: P = exp(S − m) on [a, b), 0 elsewhere below `all`; brings m, l and the row of the accumulator up to date. */
function softmaxRow(s: usize, a: i32, b: i32, all: i32, state: usize, acc: usize, D: i32): void {
  if (a >= b) {
    memory.fill(s, 0, <usize>all << 2);
    return;
  }
  const width = (b + 7) & ~7;
  memory.fill(s + (<usize>width << 2), 0, <usize>(all - width) << 2);
  if (a > 0) for (let i = 0; i < a; i++) store<f32>(s + (<usize>i << 2), -Infinity);
  for (let i = b; i < width; i++) store<f32>(s + (<usize>i << 2), -Infinity);
  let v = f32x4.splat(-Infinity);
  for (let i = 0; i < width; i += 4) v = f32x4.max(v, v128.load(s + (<usize>i << 2)));
  const before = load<f32>(state);
  const m = max<f32>(before, hmax(v));
  if (m == -Infinity) {
    memory.fill(s, 0, <usize>width << 2);
    return;
  }
  const shift = f32x4.splat(m);
  let t0 = f32x4.splat(0);
  let t1 = f32x4.splat(0);
  for (let i = 0; i < width; i += 8) {
    const p = s + (<usize>i << 2);
    const x = vexp(f32x4.sub(v128.load(p), shift));
    const y = vexp(f32x4.sub(v128.load(p, 16), shift));
    t0 = f32x4.add(t0, x);
    t1 = f32x4.add(t1, y);
    v128.store(p, x);
    v128.store(p, y, 16);
  }
  const sum = hsum(f32x4.add(t0, t1));
  if (m == before) {
    store<f32>(state, load<f32>(state, 4) + sum, 4);
    return;
  }
  const correction = f32x4.extract_lane(vexp(f32x4.splat(before - m)), 0);
  store<f32>(state, m);
  store<f32>(state, load<f32>(state, 4) * correction + sum, 4);
  const c = f32x4.splat(correction);
  for (let i = 0; i < D; i += 4) {
    const p = acc + (<usize>i << 2);
    v128.store(p, f32x4.mul(v128.load(p), c));
  }
}

/**
 * Units `begin`…`end`: (b · Hq + h) · tiles + t, the last tile of queries first. q, k, v and y have unit step over D (at most MAX_D) and strides in
 * elements over batch (B), token (T) and head (H); y is of the same type. lse f32. starts and ends: i32 or address 0.
 */
export function attention(
  type: i32, q: usize, qB: i32, qT: i32, qH: i32, k: usize, kB: i32, kT: i32, kH: i32, v: usize, vB: i32, vT: i32, vH: i32,
  y: usize, yB: i32, yT: i32, yH: i32, lse: usize, lB: i32, lH: i32, lT: i32,
  starts: usize, sB: i32, sT: i32, ends: usize, eB: i32, eT: i32,
  Tq: i32, Tk: i32, Hq: i32, group: i32, D: i32, scale: f32, causal: i32, begin: i32, end: i32,
): void {
  const base = scratch();
  const scores = base + SCORES;
  const acc = base + ACC;
  const tiles = (Tq + TILE_Q - 1) / TILE_Q;
  const depth = paddedDepth(D);
  const panelQ = <usize>(depth * MR * 4);
  const width = (D + 7) & ~7;
  const ldAcc = <usize>width << 2;
  for (let unit = begin; unit < end; unit++) {
    const q0 = (tiles - 1 - (unit % tiles)) * TILE_Q;
    const head = unit / tiles;
    const b = head / Hq;
    const h = head % Hq;
    const hk = h / group;
    const rows = min<i32>(TILE_Q, Tq - q0);
    const full = ((rows + MR - 1) / MR) * MR;
    const range = keyRanges(base + LIMITS, starts, ends, b, sB, sT, eB, eT, q0, rows, Tq, Tk, causal != 0);
    panelRanges(base + PANELS, base + LIMITS, rows);
    const last = <i32>(range >> 32);
    const first = <i32>range;
    const qp = at(q, type, b * qB + q0 * qT + h * qH);
    const qf = asF32(type, qp, qT, rows, D, base + WIDE_K);
    const qStride = <usize>(type == F32 ? qT : D) << 2;
    for (let i = 0; i < rows; i += MR) {
      packRows6(base + PACK_Q + <usize>(i / MR) * panelQ, qf + <usize>i * qStride, qStride, min<i32>(MR, rows - i), D);
    }
    memory.fill(acc, 0, <usize>full * ldAcc);
    for (let i = 0; i < full; i++) {
      store<f32>(base + STATE + (<usize>i << 3), -Infinity);
      store<f32>(base + STATE + (<usize>i << 3), 0, 4);
    }
    for (let k0 = first & ~(TILE_K - 1); k0 < last; k0 += TILE_K) {
      const keys = min<i32>(TILE_K, last - k0);
      const columns = (keys + 7) & ~7;
      const kf = asF32(type, at(k, type, b * kB + k0 * kT + hk * kH), kT, keys, D, base + WIDE_K);
      const vf = asF32(type, at(v, type, b * vB + k0 * vT + hk * vH), vT, keys, D, base + WIDE_V);
      const kStride = <usize>(type == F32 ? kT : D) << 2;
      const vStride = <usize>(type == F32 ? vT : D) << 2;
      for (let n = 0; n < keys; n += NR) {
        packRows8(base + PACK_B, kf + <usize>n * kStride, kStride, min<i32>(NR, keys - n), D);
        scoreColumn(base + PACK_Q, panelQ, base + PACK_B, depth, scores + (<usize>n << 2), scale, rows, base + PANELS, k0 + n);
      }
      for (let i = 0; i < rows; i++) {
        const lo = load<i32>(base + LIMITS + (<usize>i << 3));
        const hi = load<i32>(base + LIMITS + (<usize>i << 3), 4);
        softmaxRow(
          scores + <usize>(i * TILE_K * 4), max<i32>(0, lo - k0), min<i32>(keys, hi - k0), columns,
          base + STATE + (<usize>i << 3), acc + <usize>i * ldAcc, width,
        );
      }
      addWeighted(scores, keys, rows, base + PANELS, k0, vf, vStride, D, acc, ldAcc, 1, base + PACK_P, base + PACK_B);
    }
    for (let i = 0; i < rows; i++) {
      const m = load<f32>(base + STATE + (<usize>i << 3));
      const l = load<f32>(base + STATE + (<usize>i << 3), 4);
      const row = acc + <usize>i * ldAcc;
      const f = f32x4.splat(l == 0 ? 0 : 1 / l);
      for (let d = 0; d < width; d += 4) v128.store(row + (<usize>d << 2), f32x4.mul(v128.load(row + (<usize>d << 2)), f));
      storeRow(type, at(y, type, b * yB + (q0 + i) * yT + h * yH), 1, row, D);
      store<f32>(at(lse, F32, b * lB + h * lH + (q0 + i) * lT), l == 0 ? -Infinity : <f32>(<f64>m + log64(<f64>l)));
    }
  }
}
