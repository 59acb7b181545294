// loss = lse(logits) − logits[label]; dlogits = scale · (softmax − onehot). Rows with label −100 give 0.
import { log64 } from '../common/wasm/math.as';
import { PIECE, at, flush, input, loadOne, output, rowAt, scratchRow } from '../common/wasm/rows.as';
import { F32, I32 } from '../common/wasm/simd.as';
import { expPiece, rowMax, scalePiece } from '../softmax/softmax.as';

/**
 * Rows `begin`…`end` of V logits; leading axes: logits 0, labels 1, loss 2, dlogits 3. `scale` is the address of one f32 or 0.
 * `dlogits` 0: only the loss. It may lie over logits.
 */
export function crossEntropy(
  logits: usize, type: i32, step: i32, labels: usize, scale: usize, loss: usize, dlogits: usize, dType: i32, dStep: i32, V: i32, desc: usize,
  begin: i32, end: i32,
): void {
  const factor: f32 = scale ? load<f32>(scale) : 1;
  const direct = dlogits != 0 && dType == F32 && dStep == 1;
  const temp = scratchRow(1);
  for (let r = begin; r < end; r++) {
    const x = rowAt(logits, type, desc, 0, r);
    const label = load<i32>(rowAt(labels, I32, desc, 1, r));
    const lp = rowAt(loss, F32, desc, 2, r);
    const d = dlogits ? rowAt(dlogits, dType, desc, 3, r) : 0;
    if (label == -100) {
      store<f32>(lp, 0);
      if (dlogits) for (let o = 0; o < V; o += PIECE) {
        const m = min<i32>(PIECE, V - o);
        const to = at(d, dType, o * dStep);
        const dst = output(dType, to, dStep, temp);
        memory.fill(dst, 0, <usize>m << 2);
        flush(dType, to, dStep, dst, m);
      }
      continue;
    }
    const shift = rowMax(x, type, step, V);
    const inside = <u32>label < <u32>V;
    const chosen: f32 = inside ? loadOne(type, at(x, type, label * step)) : NaN;
    let total: f64 = 0;
    for (let o = 0; o < V; o += PIECE) {
      const m = min<i32>(PIECE, V - o);
      const src = input(type, at(x, type, o * step), step, m, scratchRow(0));
      total += <f64>expPiece(direct ? at(d, F32, o) : temp, src, m, shift);
    }
    store<f32>(lp, <f32>(log64(total) + <f64>shift - <f64>chosen));
    if (!dlogits) continue;
    const f = <f32>(<f64>factor / total);
    for (let o = 0; o < V; o += PIECE) {
      const m = min<i32>(PIECE, V - o);
      const to = at(d, dType, o * dStep);
      if (direct) scalePiece(to, to, m, f);
      else {
        const src = input(type, at(x, type, o * step), step, m, scratchRow(0));
        expPiece(temp, src, m, shift);
        scalePiece(temp, temp, m, f);
      }
      const p = direct ? to : temp;
      if (label >= o && label < o + m) {
        const q = p + (<usize>(label - o) << 2);
        store<f32>(q, load<f32>(q) - factor);
      }
      if (!direct) flush(dType, to, dStep, temp, m);
    }
  }
}
