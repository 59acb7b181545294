import {
  bytesOf,
  type Call,
  type CrossEntropy,
  type FusedKernel,
  type RmsNorm,
  type RmsNormBackward,
  type Rope,
  type Softmax,
  type SoftmaxBackward,
  type Swiglu,
  type SwigluBackward,
  sizeOf,
  type View,
} from '@lowrank/kernels';
import { convert } from '../primitives/elementwise.ts';
import { rowPointer } from '../primitives/matmul.ts';
import { temporaryView } from '../primitives/temporary.ts';
import type { Engine } from '../runtime/engine.ts';
import { join, lastStep, rowsOf, typeCode } from '../views.ts';

/** Address, type and step along the last axis. */
function operand(engine: Engine, view: View): [number, number, number] {
  return [engine.pointer(view), typeCode[view.dtype], lastStep(view)];
}

const always = () => true as const;

/** The last axis; 1 for a scalar. */
const width = (view: View) => view.shape.at(-1) ?? 1;

export const softmax = (engine: Engine): FusedKernel<Softmax> => ({
  accepts: always,
  run: ({ inputs: { x }, outputs: { y } }: Call<Softmax>) => {
    if (sizeOf(x.shape) === 0) return;
    const lead = rowsOf([x, y], x.shape);
    const desc = engine.describe(0, lead.shape, lead.strides);
    engine.run('softmax', [...operand(engine, x), ...operand(engine, y), width(x), desc], lead.rows, 30 + width(x) * 2);
  },
});

export const softmaxBackward = (engine: Engine): FusedKernel<SoftmaxBackward> => ({
  accepts: always,
  run: ({ inputs: { dy, y }, outputs: { dx } }: Call<SoftmaxBackward>) => {
    if (sizeOf(y.shape) === 0) return;
    const lead = rowsOf([dy, y, dx], y.shape);
    const desc = engine.describe(0, lead.shape, lead.strides);
    const args = [...operand(engine, dy), ...operand(engine, y), ...operand(engine, dx), width(y), desc];
    engine.run('softmaxBackward', args, lead.rows, 30 + width(y));
  },
});

export const rmsNorm = (engine: Engine): FusedKernel<RmsNorm> => ({
  accepts: always,
  run: ({ inputs: { x, weight }, outputs: { y, rstd }, attrs: { eps } }: Call<RmsNorm>) => {
    if (sizeOf(x.shape) === 0) return;
    // rstd has no last axis: it is described over the same leading axes.
    const lead = rowsOf([x, y, rstd], x.shape);
    const desc = engine.describe(0, lead.shape, lead.strides);
    const args = [
      ...operand(engine, x),
      ...operand(engine, weight),
      ...operand(engine, y),
      engine.pointer(rstd),
      width(x),
      eps,
      desc,
    ];
    engine.run('rmsNorm', args, lead.rows, 30 + width(x) * 0.7);
  },
});

/** Columns of one unit of the weight's gradient. */
const COLUMNS = 256;

export const rmsNormBackward = (engine: Engine): FusedKernel<RmsNormBackward> => ({
  accepts: always,
  run: ({
    inputs: { dy, x, weight, rstd },
    outputs: { dx, dweight },
    attrs: { needWeight },
  }: Call<RmsNormBackward>) => {
    const n = width(x);
    const lead = rowsOf([dy, x, dx, rstd], x.shape);
    if (needWeight && dweight && n > 0) {
      // First: dx may lie over dy.
      const direct = lastStep(dweight) === 1;
      const to = direct ? dweight : temporaryView(engine, [n], 'f32');
      const desc = engine.describe(0, lead.shape, lead.strides);
      const args = [
        ...operand(engine, dy),
        ...operand(engine, x),
        engine.pointer(rstd),
        engine.pointer(to),
        n,
        lead.rows,
        COLUMNS,
        desc,
      ];
      engine.run('rmsNormWeight', args, Math.ceil(n / COLUMNS), lead.rows * 200);
      if (!direct) convert(engine, to, dweight);
    }
    if (sizeOf(x.shape) === 0) return;
    const desc = engine.describe(0, lead.shape, lead.strides);
    const args = [
      ...operand(engine, dy),
      ...operand(engine, x),
      ...operand(engine, weight),
      engine.pointer(rstd),
      ...operand(engine, dx),
      n,
      desc,
    ];
    engine.run('rmsNormBackward', args, lead.rows, 30 + n);
  },
});

/** Widest head that fits a scratch row. */
const ROPE_WIDTH = 1024;

export const rope = (engine: Engine): FusedKernel<Rope> => ({
  accepts: ({ inputs: { x } }) => (x.shape[3]! <= ROPE_WIDTH ? true : { refused: `heads wider than ${ROPE_WIDTH}` }),
  run: ({ inputs: { x: from, cos, sin, positions }, outputs: { y: to }, attrs: { inverse, heads } }: Call<Rope>) => {
    if (sizeOf(from.shape) === 0) return;
    const turned = heads ?? from.shape[2]!;
    const [x, y] = [from, to].map((v) => headsOf(v, 0, turned)) as [View, View];
    if (turned < from.shape[2]! && (from.buffer !== to.buffer || from.byteOffset !== to.byteOffset))
      convert(engine, headsOf(from, turned), headsOf(to, turned));
    if (sizeOf(x.shape) === 0) return;
    const [B, T, H, D] = x.shape as [number, number, number, number];
    const half = cos.shape[1]!;
    const dense = (table: View) => (table.strides[1] === 1 || half === 1 ? table : moved(engine, table));
    const [c, s] = [dense(cos), dense(sin)];
    const even = c.strides[0] === s.strides[0] ? [c, s] : [moved(engine, c), moved(engine, s)];
    const lead = join([B, T], [x.strides.slice(0, 2), y.strides.slice(0, 2), positions.strides]);
    const desc = engine.describe(0, lead.shape, lead.strides);
    const args = [
      ...[
        engine.pointer(x),
        typeCode[x.dtype],
        x.strides[2]!,
        lastStep(x),
        engine.pointer(y),
        typeCode[y.dtype],
        y.strides[2]!,
        lastStep(y),
      ],
      ...[
        engine.pointer(even[0]!),
        engine.pointer(even[1]!),
        even[0]!.strides[0]!,
        engine.pointer(positions),
        H,
        D,
        half,
        inverse ? -1 : 1,
        desc,
      ],
    ];
    engine.run('rope', args, B * T, 30 + H * (20 + D * 0.5));
  },
});

/** Heads from … to of [B, T, H, D]. */
function headsOf(v: View, from: number, to = v.shape[2]!): View {
  const byteOffset = v.byteOffset + from * v.strides[2]! * bytesOf[v.dtype];
  return { ...v, byteOffset, shape: [v.shape[0]!, v.shape[1]!, to - from, v.shape[3]!] };
}

/** A contiguous copy. */
function moved(engine: Engine, view: View): View {
  const to = temporaryView(engine, view.shape, view.dtype);
  convert(engine, view, to);
  return to;
}

export const swiglu = (engine: Engine): FusedKernel<Swiglu> => ({
  accepts: always,
  run: ({ inputs: { x }, outputs: { y } }: Call<Swiglu>) => {
    if (sizeOf(y.shape) === 0) return;
    const lead = rowsOf([x, y], y.shape);
    const desc = engine.describe(0, lead.shape, lead.strides);
    // x has two columns or more, so its own last stride is the step.
    const args = [engine.pointer(x), typeCode[x.dtype], x.strides.at(-1)!, ...operand(engine, y), width(y), desc];
    engine.run('swiglu', args, lead.rows, 30 + width(y) * 2);
  },
});

export const swigluBackward = (engine: Engine): FusedKernel<SwigluBackward> => ({
  accepts: always,
  run: ({ inputs: { dy, x }, outputs: { dx } }: Call<SwigluBackward>) => {
    if (sizeOf(dy.shape) === 0) return;
    const lead = rowsOf([dy, x, dx], dy.shape);
    const desc = engine.describe(0, lead.shape, lead.strides);
    const pair = (view: View): [number, number, number] => [
      engine.pointer(view),
      typeCode[view.dtype],
      view.strides.at(-1)!,
    ];
    engine.run(
      'swigluBackward',
      [...operand(engine, dy), ...pair(x), ...pair(dx), width(dy), desc],
      lead.rows,
      30 + width(dy) * 3,
    );
  },
});

export const crossEntropy = (engine: Engine): FusedKernel<CrossEntropy> => ({
  accepts: always,
  run: ({ inputs: { logits, labels, scale }, outputs: { loss, dlogits }, attrs: { gradient } }: Call<CrossEntropy>) => {
    if (sizeOf(logits.shape) === 0) return;
    const [N, V] = logits.shape as [number, number];
    const d = gradient ? dlogits : undefined;
    const lead = join([N], [[logits.strides[0]!], [labels.strides[0]!], [loss.strides[0]!], [d?.strides[0] ?? 0]]);
    const desc = engine.describe(0, lead.shape, lead.strides);
    const args = [
      ...operand(engine, logits),
      ...[engine.pointer(labels), scale ? rowPointer(engine, scale) : 0, engine.pointer(loss)],
      ...(d ? operand(engine, d) : [0, 0, 1]),
      ...[V, desc],
    ];
    engine.run('crossEntropy', args, N, 50 + V * (d ? 2 : 1.5));
  },
});
