// Gradients of attention by the tiles of the forward pass. One unit is one query head of one batch row: dq, and that head's own dk and dv.
import { vexp } from '../common/wasm/math.as';
import { at, storeRow } from '../common/wasm/rows.as';
import { scratch } from '../common/wasm/runtime.as';
import { F32, dotPiece } from '../common/wasm/simd.as';
import { MR, NR, packColumns6, packColumns8, packRows6, packRows8, paddedDepth, tile6x8, tileEdge } from '../common/wasm/tile.as';
import { MAX_D, TILE_K, TILE_Q, addWeighted, asF32, keyRanges, panelRanges, scoreColumn } from '../attention/attention.as';

const LIMITS: usize = 0;
const PANELS: usize = LIMITS + <usize>(TILE_Q * 8);
/** Of each query: lse and Δ. */
const STATE: usize = PANELS + <usize>(TILE_Q * 8);
const EDGE: usize = STATE + <usize>(TILE_Q * 8);
const SCORES: usize = EDGE + 256;
const SLOPES: usize = SCORES + <usize>(TILE_Q * TILE_K * 4);
const PACK_S: usize = SLOPES + <usize>(TILE_Q * TILE_K * 4);
const PACK_B: usize = PACK_S + <usize>((TILE_Q + 2) * (TILE_K + 8) * 4);
const PACK_Q: usize = PACK_B + <usize>((MAX_D + TILE_K + TILE_Q) * NR * 4);
const PACK_G: usize = PACK_Q + <usize>(TILE_Q * MAX_D * 4);
const COLS_Q: usize = PACK_G + <usize>(TILE_Q * MAX_D * 4);
const COLS_G: usize = COLS_Q + <usize>(TILE_Q * MAX_D * 4);
const ACC: usize = COLS_G + <usize>(TILE_Q * MAX_D * 4);
const WIDE_A: usize = ACC + <usize>(TILE_Q * MAX_D * 4);
const WIDE_B: usize = WIDE_A + <usize>(TILE_Q * MAX_D * 4);

/** S → P = exp(S − lse) on [a, b), 0 elsewhere below `all`; dP → dS = P · (dP − Δ). */
function slopeRow(s: usize, d: usize, a: i32, b: i32, all: i32, lse: f32, delta: f32): void {
  if (a >= b) {
    memory.fill(s, 0, <usize>all << 2);
    memory.fill(d, 0, <usize>all << 2);
    return;
  }
  const width = (b + 7) & ~7;
  memory.fill(s + (<usize>width << 2), 0, <usize>(all - width) << 2);
  memory.fill(d + (<usize>width << 2), 0, <usize>(all - width) << 2);
  const shift = f32x4.splat(lse);
  const vd = f32x4.splat(delta);
  for (let i = 0; i < width; i += 4) {
    const q = <usize>i << 2;
    const p = vexp(f32x4.sub(v128.load(s + q), shift));
    v128.store(s + q, p);
    v128.store(d + q, f32x4.mul(p, f32x4.sub(v128.load(d + q), vd)));
  }
  for (let i = 0; i < a; i++) {
    store<f32>(s + (<usize>i << 2), 0);
    store<f32>(d + (<usize>i << 2), 0);
  }
  for (let i = b; i < width; i++) {
    store<f32>(s + (<usize>i << 2), 0);
    store<f32>(d + (<usize>i << 2), 0);
  }
}

/** First row of a tile, rounded down to an even one, that sees a key from `key` on; `rows` if none does. */
function firstRow(limits: usize, rows: i32, key: i32): i32 {
  let r = 0;
  while (r < rows && load<i32>(limits + (<usize>r << 3), 4) <= key) r++;
  return r == rows ? rows : r & ~1;
}

/**
 * acc[keys, D] += alpha · Tᵀ·B, where T [rows, TILE_K] is a tile of weights and B the column panels of q or dy. Each panel of six keys starts at
 * the first row that sees one of them: rows before it have weight 0.
 */
function addTransposed(
  tile: usize, keys: i32, k0: i32, rows: i32, limits: usize, panels: usize, panelBytes: usize, D: i32, out: usize, ld: usize, alpha: f32, pack: usize,
  edge: usize,
): void {
  for (let i = 0; i < keys; i += MR) {
    const valid = min<i32>(MR, keys - i);
    const from = firstRow(limits, rows, k0 + i);
    if (from == rows) continue;
    packColumns6(pack, tile + <usize>(from * TILE_K * 4) + (<usize>i << 2), TILE_K * 4, valid, rows - from);
    const kc = paddedDepth(rows - from);
    const start = <usize>(from * NR * 4);
    for (let n = 0; n < D; n += NR) {
      const b = panels + <usize>(n / NR) * panelBytes + start;
      const c = out + <usize>i * ld + (<usize>n << 2);
      if (valid == MR && D - n >= NR) tile6x8(pack, b, kc, c, ld, alpha, true);
      else tileEdge(pack, b, kc, c, ld, alpha, true, valid, min<i32>(NR, D - n), edge);
    }
  }
}

/**
 * Units `begin`…`end`: b · Hq + h. Types and strides as in `attention`; dy, y and dq are of `type`. dk and dv are f32 with one slice a query head:
 * strides gB, gT, gH over batch, token and query head; they are overwritten.
 */
export function attentionBackward(
  type: i32, dy: usize, dB: i32, dT: i32, dH: i32, q: usize, qB: i32, qT: i32, qH: i32, k: usize, kB: i32, kT: i32, kH: i32,
  v: usize, vB: i32, vT: i32, vH: i32, y: usize, yB: i32, yT: i32, yH: i32, lse: usize, lB: i32, lH: i32, lT: i32,
  starts: usize, sB: i32, sT: i32, ends: usize, eB: i32, eT: i32,
  dq: usize, xB: i32, xT: i32, xH: i32, dk: usize, dv: usize, gB: i32, gT: i32, gH: i32,
  Tq: i32, Tk: i32, Hq: i32, group: i32, D: i32, scale: f32, causal: i32, begin: i32, end: i32,
): void {
  const base = scratch();
  const scores = base + SCORES;
  const slopes = base + SLOPES;
  const acc = base + ACC;
  const depth = paddedDepth(D);
  const panelD = <usize>(depth * MR * 4);
  const width = (D + 7) & ~7;
  const ldAcc = <usize>width << 2;
  const ldGrad = <usize>gT << 2;
  for (let unit = begin; unit < end; unit++) {
    const b = unit / Hq;
    const h = unit % Hq;
    const hk = h / group;
    const dkh = at(dk, F32, b * gB + h * gH);
    const dvh = at(dv, F32, b * gB + h * gH);
    for (let j = 0; j < Tk; j++) {
      memory.fill(dkh + <usize>j * ldGrad, 0, <usize>D << 2);
      memory.fill(dvh + <usize>j * ldGrad, 0, <usize>D << 2);
    }
    for (let q0 = 0; q0 < Tq; q0 += TILE_Q) {
      const rows = min<i32>(TILE_Q, Tq - q0);
      const full = ((rows + MR - 1) / MR) * MR;
      const range = keyRanges(base + LIMITS, starts, ends, b, sB, sT, eB, eT, q0, rows, Tq, Tk, causal != 0);
      panelRanges(base + PANELS, base + LIMITS, rows);
      const last = <i32>(range >> 32);
      const first = <i32>range;
      const panelRows = <usize>(paddedDepth(rows) * NR * 4);
      // Δ first, since y and dy then share a buffer of widened rows with q.
      const gp = at(dy, type, b * dB + q0 * dT + h * dH);
      const gf = asF32(type, gp, dT, rows, D, base + WIDE_A);
      const gStride = <usize>(type == F32 ? dT : D) << 2;
      const yf = asF32(type, at(y, type, b * yB + q0 * yT + h * yH), yT, rows, D, base + WIDE_B);
      const yStride = <usize>(type == F32 ? yT : D) << 2;
      for (let i = 0; i < rows; i++) {
        const state = base + STATE + (<usize>i << 3);
        store<f32>(state, load<f32>(at(lse, F32, b * lB + h * lH + (q0 + i) * lT)));
        store<f32>(state, dotPiece(gf + <usize>i * gStride, yf + <usize>i * yStride, D), 4);
      }
      const qf = asF32(type, at(q, type, b * qB + q0 * qT + h * qH), qT, rows, D, base + WIDE_B);
      const qStride = <usize>(type == F32 ? qT : D) << 2;
      for (let i = 0; i < rows; i += MR) {
        const valid = min<i32>(MR, rows - i);
        const panel = <usize>(i / MR) * panelD;
        packRows6(base + PACK_Q + panel, qf + <usize>i * qStride, qStride, valid, D);
        packRows6(base + PACK_G + panel, gf + <usize>i * gStride, gStride, valid, D);
      }
      for (let n = 0; n < D; n += NR) {
        const valid = min<i32>(NR, D - n);
        const panel = <usize>(n / NR) * panelRows;
        packColumns8(base + COLS_Q + panel, qf + (<usize>n << 2), qStride, valid, rows);
        packColumns8(base + COLS_G + panel, gf + (<usize>n << 2), gStride, valid, rows);
      }
      memory.fill(acc, 0, <usize>full * ldAcc);
      for (let k0 = first & ~(TILE_K - 1); k0 < last; k0 += TILE_K) {
        const keys = min<i32>(TILE_K, last - k0);
        const columns = (keys + 7) & ~7;
        const kf = asF32(type, at(k, type, b * kB + k0 * kT + hk * kH), kT, keys, D, base + WIDE_A);
        const vf = asF32(type, at(v, type, b * vB + k0 * vT + hk * vH), vT, keys, D, base + WIDE_B);
        const kStride = <usize>(type == F32 ? kT : D) << 2;
        const vStride = <usize>(type == F32 ? vT : D) << 2;
        for (let n = 0; n < keys; n += NR) {
          const valid = min<i32>(NR, keys - n);
          packRows8(base + PACK_B, kf + <usize>n * kStride, kStride, valid, D);
          scoreColumn(base + PACK_Q, panelD, base + PACK_B, depth, scores + (<usize>n << 2), scale, rows, base + PANELS, k0 + n);
          packRows8(base + PACK_B, vf + <usize>n * vStride, vStride, valid, D);
          scoreColumn(base + PACK_G, panelD, base + PACK_B, depth, slopes + (<usize>n << 2), 1, rows, base + PANELS, k0 + n);
        }
        for (let i = 0; i < rows; i++) {
          const lo = load<i32>(base + LIMITS + (<usize>i << 3));
          const hi = load<i32>(base + LIMITS + (<usize>i << 3), 4);
          const state = base + STATE + (<usize>i << 3);
          const row = <usize>(i * TILE_K * 4);
          slopeRow(scores + row, slopes + row, max<i32>(0, lo - k0), min<i32>(keys, hi - k0), columns, load<f32>(state), load<f32>(state, 4));
        }
        const o = <usize>k0 * ldGrad;
        const limits = base + LIMITS;
        addTransposed(scores, keys, k0, rows, limits, base + COLS_G, panelRows, D, dvh + o, ldGrad, 1, base + PACK_S, base + EDGE);
        addTransposed(slopes, keys, k0, rows, limits, base + COLS_Q, panelRows, D, dkh + o, ldGrad, scale, base + PACK_S, base + EDGE);
        addWeighted(slopes, keys, rows, base + PANELS, k0, kf, kStride, D, acc, ldAcc, scale, base + PACK_S, base + PACK_B);
      }
      for (let i = 0; i < rows; i++) storeRow(type, at(dq, type, b * xB + (q0 + i) * xT + h * xH), 1, acc + <usize>i * ldAcc, D);
    }
  }
}
