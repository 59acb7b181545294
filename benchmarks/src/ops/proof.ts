import { contiguous, Device, isFloat, keep, scope, type Tensor } from '@lowrank/tensor';
import { type Built, Data, type OpCase } from './case.ts';

/** Largest ‖a − b‖ / ‖b‖ over pairs of results on one device, computed there in f32. Disposes both. NaN counts as infinite. */
export async function difference(results: readonly Tensor[], expected: readonly Tensor[]): Promise<number> {
  let worst = 0;
  try {
    for (const [i, b] of expected.entries()) {
      const a = results[i]!;
      if (!isFloat(b.dtype)) continue;
      const [gap, norm] = scope(() => {
        const [x, y] = [a.cast('f32'), b.cast('f32')];
        return [x.sub(y).square().sum(), y.square().sum()];
      }) as [Tensor, Tensor];
      const ratio = Math.sqrt((await gap.item()) / Math.max(await norm.item(), 1e-30));
      gap.dispose();
      norm.dispose();
      worst = Math.max(worst, Number.isNaN(ratio) ? Number.POSITIVE_INFINITY : ratio);
    }
    return worst;
  } finally {
    for (const t of new Set([...results, ...expected])) t.dispose();
  }
}

/** A tensor of another device on the same backend, copied. */
function brought(device: Device, t: Tensor): Tensor {
  const from = keep(contiguous(t));
  const to = keep(device.empty(from.shape, from.dtype));
  const [a, b] = [from.view, to.view];
  if (from.byteLength) device.backend.memory.copy(a.buffer, a.byteOffset, b.buffer, b.byteOffset, from.byteLength);
  from.dispose();
  return to;
}

async function once(device: Device, op: OpCase, seed: number): Promise<{ built: Built; results: readonly Tensor[] }> {
  const built = await op.build(new Data(device, { seed }), op.sizes);
  try {
    return { built, results: await built.run() };
  } catch (error) {
    for (const item of built.held) item[Symbol.dispose]();
    throw error;
  }
}

/**
 * How far results at the measured sizes are from those of other kernels: an op's own proof, or its primitives. Undefined where nothing else
 * computes it.
 */
export async function differenceAtShape(device: Device, op: OpCase, seed: number): Promise<number | undefined> {
  if (op.prove) return op.prove(new Data(device, { seed }), op.sizes);
  const { fused } = device.backend;
  if (op.alone || !Object.keys(fused).some((name) => name !== 'quantize')) return undefined;
  // quantize has no decomposition; not closed: the backend is the contender's
  const plain = new Device({ ...device.backend, fused: fused.quantize ? { quantize: fused.quantize } : {} });
  try {
    const expected = await once(plain, op, seed);
    const copies = expected.results.map((t) => brought(device, t));
    for (const t of expected.results) t.dispose();
    for (const item of expected.built.held) item[Symbol.dispose]();
    const { built, results } = await once(device, op, seed);
    try {
      return await difference(results, copies);
    } finally {
      for (const item of built.held) item[Symbol.dispose]();
    }
  } finally {
    plain.pool.trim();
  }
}
