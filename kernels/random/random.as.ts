// Bits, uniform and normal numbers from Philox, by the row-major index of the element.
import { vcosTurn, vlog, vsinTurn } from '../common/wasm/math.as';
import { philoxWords, uniform4 } from '../common/wasm/philox.as';
import { PIECE, at, rowAt, scratchRow, storeInts, storeRow } from '../common/wasm/rows.as';

const BITS: i32 = 0;
const UNIFORM: i32 = 1;

/** Box–Muller over words in place; `count` a multiple of 4 words, starting at an even element. */
function normals(words: usize, count: i32): void {
  for (let i = 0; i < count; i += 4) {
    const p = words + (<usize>i << 2);
    const w = v128.load(p);
    // Lanes 0 and 2 make the radius of their pair, lanes 1 and 3 the angle.
    const even = v128.shuffle<i32>(w, w, 0, 0, 2, 2);
    const odd = v128.shuffle<i32>(w, w, 1, 1, 3, 3);
    const u = f32x4.mul(f32x4.convert_i32x4_s(i32x4.add(i32x4.shr_u(even, 8), i32x4.splat(1))), f32x4.splat(5.9604644775390625e-8));
    const r = f32x4.sqrt(f32x4.mul(vlog(u), f32x4.splat(-2)));
    const v = uniform4(odd);
    const c = vcosTurn(v);
    const s = vsinTurn(v);
    v128.store(p, f32x4.mul(r, v128.shuffle<f32>(c, s, 0, 5, 2, 7)));
  }
}

/** Units of rows (operand 0 of `desc`) of n elements cut into chunks; element i of row r has index r·n + i. */
export function random(
  kind: i32, y: usize, type: i32, step: i32, n: i32, chunk: i32, desc: usize, seed: usize, site: i32, begin: i32, end: i32,
): void {
  const chunks = (n + chunk - 1) / chunk;
  const words = scratchRow(0);
  for (let unit = begin; unit < end; unit++) {
    const row = unit / chunks;
    const from = (unit % chunks) * chunk;
    const to = min<i32>(n, from + chunk);
    const yr = rowAt(y, type, desc, 0, row);
    for (let o = from; o < to; o += PIECE) {
      const m = min<i32>(PIECE, to - o);
      const yp = at(yr, type, o * step);
      const skip = philoxWords(words, seed, site, <u64>row * <u64>n + <u64>o, m);
      const count = (m + skip + 3) & ~3;
      if (kind == BITS) {
        storeInts(type, yp, step, words + (<usize>skip << 2), m);
        continue;
      }
      if (kind == UNIFORM) for (let i = 0; i < count; i += 4) v128.store(words + (<usize>i << 2), uniform4(v128.load(words + (<usize>i << 2))));
      else normals(words, count);
      storeRow(type, yp, step, words + (<usize>skip << 2), m);
    }
  }
}
