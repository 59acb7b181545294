import { type Adamw, type Call, type Dropout, type FusedKernel, sizeOf, type View } from '@lowrank/kernels';
import { contiguousSeed, convert } from '../primitives/elementwise.ts';
import { rowPointer } from '../primitives/matmul.ts';
import type { Engine } from '../runtime/engine.ts';
import { loopOver, sameView, typeCode } from '../views.ts';

/** Elements of one unit. */
const CHUNK = 4096;

export const adamw = (engine: Engine): FusedKernel<Adamw> => ({
  accepts: ({ outputs: { p, m, v } }) => {
    const { steps, n } = loopOver(p.shape, [m.strides, v.strides, p.strides]);
    return n === 1 || (steps[0] === 1 && steps[1] === 1) ? true : { refused: 'm and v must be contiguous where p is' };
  },
  run: ({ inputs, outputs: { p, m, v }, attrs: { beta1, beta2, eps } }: Call<Adamw>) => {
    if (sizeOf(p.shape) === 0) return;
    const { g, hyper, gradScale } = inputs;
    // The kernel updates in place.
    for (const [from, to] of [
      [inputs.p, p],
      [inputs.m, m],
      [inputs.v, v],
    ] as const)
      if (!sameView(from, to)) convert(engine, from, to);
    const loop = loopOver(p.shape, [g.strides, m.strides, v.strides, p.strides]);
    const [gs, ms, vs, ps] = loop.strides as [number[], number[], number[], number[]];
    const desc = engine.describe(0, loop.shape, [ps, gs, ms, vs]);
    const pair = (view: View, step: number) => [engine.pointer(view), typeCode[view.dtype], step];
    const args = [
      ...pair(p, loop.steps[3]!),
      ...pair(g, loop.steps[0]!),
      ...[
        engine.pointer(m),
        engine.pointer(v),
        rowPointer(engine, hyper),
        gradScale ? rowPointer(engine, gradScale) : 0,
      ],
      ...[beta1, 1 - beta1, beta2, 1 - beta2, eps, loop.n, CHUNK, desc],
    ];
    engine.run('adamw', args, loop.rows * Math.ceil(loop.n / CHUNK), 30 + Math.min(loop.n, CHUNK) * 2);
  },
});

export const dropout = (engine: Engine): FusedKernel<Dropout> => ({
  accepts: () => true,
  run: ({ inputs: { x, seed }, outputs: { y }, attrs: { p, site } }: Call<Dropout>) => {
    if (sizeOf(x.shape) === 0) return;
    const words = contiguousSeed(engine, seed);
    const loop = loopOver(x.shape, [x.strides, y.strides], false);
    const desc = engine.describe(0, loop.shape, loop.strides);
    const pair = (view: View, step: number) => [engine.pointer(view), typeCode[view.dtype], step];
    const args = [...pair(x, loop.steps[0]!), ...pair(y, loop.steps[1]!), loop.n, CHUNK, desc, words, site, p, 1 - p];
    engine.run('dropout', args, loop.rows * Math.ceil(loop.n / CHUNK), 30 + Math.min(loop.n, CHUNK) * 3);
  },
});
