// AdamW in PyTorch's order of operations, each rounded to f32.
import { PIECE, at, flush, input, output, rowAt, scratchRow } from '../common/wasm/rows.as';
import { F32, storeLanes } from '../common/wasm/simd.as';

/** Units of rows cut into chunks; leading axes: p 0, g 1, m 2, v 3 (m and v f32 of step 1). hyper: lr, weightDecay, 1 − β₁ᵗ, √(1 − β₂ᵗ). */
export function adamw(
  p: usize, pType: i32, pStep: i32, g: usize, gType: i32, gStep: i32, m: usize, v: usize, hyper: usize, gradScale: usize,
  beta1: f32, oneMinusBeta1: f32, beta2: f32, oneMinusBeta2: f32, eps: f32, n: i32, chunk: i32, desc: usize, begin: i32, end: i32,
): void {
  const chunks = (n + chunk - 1) / chunk;
  const lr = load<f32>(hyper);
  const decay = f32x4.splat(<f32>(1 - lr * load<f32>(hyper, 4)));
  const stepSize = f32x4.splat(lr / load<f32>(hyper, 8));
  const root = f32x4.splat(load<f32>(hyper, 12));
  const scale = f32x4.splat(gradScale ? load<f32>(gradScale) : 1);
  const w1 = f32x4.splat(oneMinusBeta1);
  const b2 = f32x4.splat(beta2);
  const w2 = f32x4.splat(oneMinusBeta2);
  const e = f32x4.splat(eps);
  for (let unit = begin; unit < end; unit++) {
    const row = unit / chunks;
    const from = (unit % chunks) * chunk;
    const to = min<i32>(n, from + chunk);
    const pr = rowAt(p, pType, desc, 0, row);
    const gr = rowAt(g, gType, desc, 1, row);
    const mr = rowAt(m, F32, desc, 2, row);
    const vr = rowAt(v, F32, desc, 3, row);
    for (let o = from; o < to; o += PIECE) {
      const count = min<i32>(PIECE, to - o);
      const pp = at(pr, pType, o * pStep);
      const src = input(pType, pp, pStep, count, scratchRow(0));
      const dst = output(pType, pp, pStep, scratchRow(0));
      const gp = input(gType, at(gr, gType, o * gStep), gStep, count, scratchRow(1));
      const mp = mr + (<usize>o << 2);
      const vp = vr + (<usize>o << 2);
      for (let i = 0; i < count; i += 4) {
        const q = <usize>i << 2;
        const left = count - i;
        const grad = f32x4.mul(v128.load(gp + q), scale);
        const m0 = v128.load(mp + q);
        const m1 = f32x4.add(m0, f32x4.mul(f32x4.sub(grad, m0), w1));
        const v1 = f32x4.add(f32x4.mul(v128.load(vp + q), b2), f32x4.mul(f32x4.mul(grad, grad), w2));
        const x = f32x4.mul(v128.load(src + q), decay);
        const denominator = f32x4.add(f32x4.div(f32x4.sqrt(v1), root), e);
        storeLanes(mp + q, m1, left);
        storeLanes(vp + q, v1, left);
        storeLanes(dst + q, f32x4.sub(x, f32x4.mul(stepSize, f32x4.div(m1, denominator))), left);
      }
      flush(pType, pp, pStep, dst, count);
    }
  }
}
