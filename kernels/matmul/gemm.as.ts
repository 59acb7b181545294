// C = alpha · A·B + beta · C on row-major C, any strides of A and B, operands of any float type, B also as 4-bit or 8-bit codes.
// A block of A (BLOCK_M × BLOCK_K) is packed into the L2 cache; each panel of 8 columns of B is packed into L1 and used at once by all its rows.
import { fetch } from '../common/wasm/codes.as';
import { shiftOf, widen } from '../common/wasm/convert.as';
import { scratch } from '../common/wasm/runtime.as';
import { CODES4, F32 } from '../common/wasm/simd.as';
import { MR, NR, packAny, packColumns6, packColumns8, packRows6, packRows8, paddedDepth, tileColumn } from '../common/wasm/tile.as';

/** Rows of A and depth of one packed block; the wide strip of B that is dequantized at once. */
const BLOCK_M: i32 = 192;
const BLOCK_K: i32 = 320;
const STRIP: i32 = 64;

const PACK_A: usize = 0;
const PACK_B: usize = <usize>(BLOCK_M * BLOCK_K * 4);
const ROWS: usize = PACK_B + <usize>(BLOCK_K * NR * 4);
const EDGE: usize = ROWS + <usize>(BLOCK_K * STRIP * 4);

export function gemmBlockM(): i32 {
  return BLOCK_M;
}

/** Packs rows m0…m0 + rows of A, steps k0…k0 + kc, as panels of 6. */
function packA(dst: usize, type: i32, a: usize, ra: i32, ca: i32, m0: i32, rows: i32, k0: i32, kc: i32, panelBytes: usize): void {
  const shift = shiftOf(type);
  const temp = scratch() + ROWS;
  for (let i = 0; i < rows; i += MR) {
    const valid = min<i32>(MR, rows - i);
    const src = a + (<usize>((m0 + i) * ra + k0 * ca) << shift);
    if (type == F32) {
      if (ca == 1) packRows6(dst, src, <usize>ra << 2, valid, kc);
      else if (ra == 1) packColumns6(dst, src, <usize>ca << 2, valid, kc);
      else packAny(dst, MR, type, src, ra, ca, valid, kc);
    } else if (ca == 1) {
      for (let r = 0; r < valid; r++) widen(type, temp + <usize>(r * BLOCK_K * 4), src + (<usize>(r * ra) << 1), kc);
      packRows6(dst, temp, BLOCK_K * 4, valid, kc);
    } else packAny(dst, MR, type, src, ra, ca, valid, kc);
    dst += panelBytes;
  }
}

/**
 * Computes tiles `begin`…`end` of the output. A tile is `tileM` × `tileN` (tileM at most `gemmBlockM()`, both multiples of 6 and 8 unless
 * they cover the side); tile indices run batch, rows, columns. Strides are in elements. Batch index b splits into b / `inner` and b % `inner`
 * with a stride each. `bias` (f32[N] or 0) is added to every row. Per element the order of additions depends on K alone.
 * B as codes: `absmax` and `book` are f32, `block` the block size, flat index of B(k, n) = k·rb + n·cb, and one of rb, cb is 1.
 */
export function gemm(
  a: usize, aType: i32, ra: i32, ca: i32, aOuter: i32, aInner: i32,
  b: usize, bType: i32, rb: i32, cb: i32, bOuter: i32, bInner: i32, absmax: usize, book: usize, block: i32,
  c: usize, ldc: i32, cOuter: i32, cInner: i32,
  M: i32, N: i32, K: i32, inner: i32, alpha: f32, beta: f32, bias: usize, tileM: i32, tileN: i32, begin: i32, end: i32,
): void {
  const tilesM = (M + tileM - 1) / tileM;
  const tilesN = (N + tileN - 1) / tileN;
  const work = scratch();
  const aShift = shiftOf(aType);
  const blocksK = (K + BLOCK_K - 1) / BLOCK_K;
  // Even blocks of K, an even number of steps each.
  const depth = blocksK > 0 ? min<i32>(BLOCK_K, ((K + blocksK - 1) / blocksK + 7) & ~7) : 0;
  for (let unit = begin; unit < end; unit++) {
    const tn = unit % tilesN;
    const rest = unit / tilesN;
    const tm = rest % tilesM;
    const batch = rest / tilesM;
    const outer = batch / inner;
    const within = batch % inner;
    const ap = a + (<usize>(outer * aOuter + within * aInner) << aShift);
    const bOffset = outer * bOuter + within * bInner;
    const bp = bType >= CODES4 ? b : b + (<usize>bOffset << shiftOf(bType));
    const bStart = bType >= CODES4 ? bOffset : 0;
    const m0 = tm * tileM;
    const n0 = tn * tileN;
    const rows = min<i32>(tileM, M - m0);
    const cols = min<i32>(tileN, N - n0);
    const ct = c + (<usize>(outer * cOuter + within * cInner + m0 * ldc + n0) << 2);
    const accumulate = prefill(ct, ldc, rows, cols, beta, bias ? bias + (<usize>n0 << 2) : 0, K);
    for (let k0 = 0; k0 < K; k0 += depth) {
      const kc = min<i32>(depth, K - k0);
      const kp = paddedDepth(kc);
      const panelBytes = <usize>(kp * MR * 4);
      packA(work + PACK_A, aType, ap, ra, ca, m0, rows, k0, kc, panelBytes);
      for (let n = 0; n < cols; n += NR) {
        const valid = min<i32>(NR, cols - n);
        const index = k0 * rb + (n0 + n) * cb;
        if (rb == 1) {
          if (bType == F32) packRows8(work + PACK_B, bp + (<usize>index << 2), <usize>cb << 2, valid, kc);
          else {
            for (let r = 0; r < valid; r++) {
              fetch(work + ROWS + <usize>(r * BLOCK_K * 4), bType, bp, absmax, book, block, bStart + index + r * cb, kc);
            }
            packRows8(work + PACK_B, work + ROWS, BLOCK_K * 4, valid, kc);
          }
        } else if (cb == 1) {
          if (bType == F32) packColumns8(work + PACK_B, bp + (<usize>index << 2), <usize>rb << 2, valid, kc);
          else {
            const column = n & (STRIP - 1);
            if (column == 0) {
              const wide = min<i32>(STRIP, cols - n);
              for (let k = 0; k < kc; k++) {
                fetch(work + ROWS + <usize>(k * STRIP * 4), bType, bp, absmax, book, block, bStart + index + k * rb, wide);
              }
            }
            packColumns8(work + PACK_B, work + ROWS + (<usize>column << 2), STRIP * 4, valid, kc);
          }
        } else packAny(work + PACK_B, NR, bType, bp + (<usize>index << shiftOf(bType)), cb, rb, valid, kc);
        tileColumn(
          work + PACK_A, panelBytes, work + PACK_B, kp, ct + (<usize>n << 2), <usize>ldc << 2,
          alpha, accumulate || k0 > 0, rows, valid, work + EDGE,
        );
      }
    }
  }
}

/** Brings C to beta · C + bias where that is not simply overwritten. True when the products must be added to it. */
function prefill(c: usize, ldc: i32, rows: i32, cols: i32, beta: f32, bias: usize, K: i32): bool {
  if (beta == 1 && bias == 0) return true;
  if (beta == 0 && bias == 0 && K > 0) return false;
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < cols; j++) {
      const p = c + (<usize>(i * ldc + j) << 2);
      let v: f32 = beta == 0 ? 0 : load<f32>(p) * beta;
      if (bias) v += load<f32>(bias + (<usize>j << 2));
      store<f32>(p, v);
    }
  }
  return true;
}
