import {
  type Attention,
  type AttentionBackward,
  type Call,
  contiguousStrides,
  type FusedKernel,
  sizeOf,
  type TensorSpec,
  type View,
} from '@lowrank/kernels';
import { reduce } from '../primitives/reduce.ts';
import { viewAt } from '../primitives/temporary.ts';
import type { Engine } from '../runtime/engine.ts';
import { lastStep, typeCode } from '../views.ts';
import { align } from './quant.ts';

/** Widest head of the kernels. */
const WIDEST = 256;

function accepts(views: readonly TensorSpec[]): true | { refused: string } {
  if (views[0]!.shape[3]! > WIDEST) return { refused: `heads wider than ${WIDEST}` };
  return views.every((v) => lastStep(v) === 1) ? true : { refused: 'heads must be contiguous' };
}

/** Address and strides over batch, token and head of a view [B, T, H, D]. */
function place(engine: Engine, view: View): number[] {
  return [engine.pointer(view), ...view.strides.slice(0, 3)];
}

/** Address and strides of starts or ends, zeros where absent. */
function limits(engine: Engine, view: View | undefined): number[] {
  return view ? [engine.pointer(view), ...view.strides] : [0, 0, 0];
}

export const attention = (engine: Engine): FusedKernel<Attention> => ({
  accepts: ({ inputs: { q, k, v }, outputs: { y } }) => accepts([q, k, v, y]),
  run: ({ inputs: { q, k, v, starts, ends }, outputs: { y, lse }, attrs: { scale, causal } }: Call<Attention>) => {
    if (sizeOf(y.shape) === 0) return;
    const [B, Tq, Hq, D] = q.shape as [number, number, number, number];
    const Tk = k.shape[1]!;
    const tile = engine.call('attentionTile');
    const args = [
      ...[typeCode[q.dtype], ...place(engine, q), ...place(engine, k), ...place(engine, v), ...place(engine, y)],
      ...[engine.pointer(lse), ...lse.strides, ...limits(engine, starts), ...limits(engine, ends)],
      ...[Tq, Tk, Hq, Hq / k.shape[2]!, D, scale, causal ? 1 : 0],
    ];
    const tiles = Math.ceil(Tq / tile);
    engine.run('attention', args, B * Hq * tiles, Math.min(Tq, tile) * Tk * (D * 0.1 + 1) * (causal ? 0.5 : 1));
  },
});

export const attentionBackward = (engine: Engine): FusedKernel<AttentionBackward> => ({
  accepts: ({ inputs: { dy, q, k, v, y }, outputs: { dq } }) => accepts([q, k, v, dy, y, dq]),
  workspace: ({ inputs: { q, k } }) => 2 * align(sizeOf([q.shape[0]!, k.shape[1]!, q.shape[2]!, q.shape[3]!]) * 4),
  run: ({
    inputs: { dy, q, k, v, y, lse, starts, ends },
    outputs: { dq, dk, dv },
    attrs: { scale, causal },
    workspace,
  }: Call<AttentionBackward>) => {
    const [B, Tq, Hq, D] = q.shape as [number, number, number, number];
    const [, Tk, Hkv] = k.shape as [number, number, number, number];
    const slices = [B, Tk, Hq, D];
    const n = sizeOf(slices);
    if (n === 0 && sizeOf(q.shape) === 0) return;
    // Each query head makes its own dk and dv; the heads of a group are summed afterwards, always in the same order.
    const from = workspace ? engine.pointer(workspace) : 0;
    const [sk, sv] = [viewAt(from, slices, 'f32'), viewAt(from + align(n * 4), slices, 'f32')];
    const strides = contiguousStrides(slices);
    const args = [
      ...[
        typeCode[q.dtype],
        ...place(engine, dy),
        ...place(engine, q),
        ...place(engine, k),
        ...place(engine, v),
        ...place(engine, y),
      ],
      ...[engine.pointer(lse), ...lse.strides, ...limits(engine, starts), ...limits(engine, ends)],
      ...[...place(engine, dq), engine.pointer(sk), engine.pointer(sv), ...strides.slice(0, 3)],
      ...[Tq, Tk, Hq, Hq / Hkv, D, scale, causal ? 1 : 0],
    ];
    engine.run('attentionBackward', args, B * Hq, Tq * Tk * (D * 0.3 + 2) * (causal ? 0.5 : 1));
    for (const [slice, to] of [
      [sk, dk],
      [sv, dv],
    ] as const) {
      const group = Hq / Hkv;
      const x: View = { ...slice, shape: [B, Tk, Hkv, group, D], strides: [strides[0]!, strides[1]!, group * D, D, 1] };
      const grouped: View = {
        ...to,
        shape: [B, Tk, Hkv, 1, D],
        strides: [to.strides[0]!, to.strides[1]!, to.strides[2]!, 0, to.strides[3]!],
      };
      reduce(engine, { inputs: { x }, outputs: { y: grouped }, attrs: { op: 'sum', axes: [3] } });
    }
  },
});
