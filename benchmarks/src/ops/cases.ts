import type { FloatDType } from '@lowrank/tensor';
import { type ShapeName, shapeNames, shapeOf } from '../shapes.ts';
import type { OpCase } from './case.ts';
import { adapted, dequantizing, headLoss, product, quantizing, quantProduct } from './linear-cases.ts';
import { attending, chain, gating, normalizing, rotating, updating } from './row-cases.ts';

const halves: readonly FloatDType[] = ['f16', 'bf16'];
/** Tokens of a step. */
const rows: Readonly<Record<ShapeName, number>> = { 'smollm2-135m': 256, 'llama-3.2-1b': 512, 'llama-3.1-8b': 2048 };

/** Products of a model's layers at the length it is trained with: q and o, k and v, gate and up, down, the output head. */
function products(name: ShapeName): OpCase[] {
  const c = shapeOf(name);
  const m = rows[name];
  const small = name === 'smollm2-135m';
  const shapes = [
    [c.hiddenSize, c.heads * c.headDim],
    [c.hiddenSize, c.kvHeads * c.headDim],
    [c.hiddenSize, c.intermediateSize],
    [c.intermediateSize, c.hiddenSize],
    [c.hiddenSize, c.vocabSize],
  ] as const;
  return (['f32', ...halves] as const).flatMap((dtype) =>
    shapes.map(([k, n], i) => product(m, k, n, dtype, small && dtype === 'f32' && (i === 2 || i === 3))),
  );
}

/** Everything else that a block of a model runs. */
function blockOf(name: ShapeName, dtype: FloatDType): OpCase[] {
  const c = shapeOf(name);
  const m = rows[name];
  const quick = name === 'smollm2-135m' && dtype === 'f32';
  const [n, k] = [c.intermediateSize, c.hiddenSize];
  return [
    ...(dtype === 'f32' ? [quantizing(n, k, 'nf4', quick), quantizing(n, k, 'int8')] : []),
    dequantizing(n, k, 'nf4', dtype, quick),
    ...[1, 32, 512, 2048].map((x) => quantProduct(x, n, k, dtype, quick && x <= 512)),
    quantProduct(512, n, k, dtype, false, true),
    ...[false, true].flatMap((back) => [
      adapted({ m, n, k, r: 16, quant: true, dtype, back }, quick && back),
      adapted({ m, n, k, r: 16, quant: false, dtype, back }),
      attending(m, c.heads, c.kvHeads, c.headDim, dtype, back, quick),
      normalizing(m, k, dtype, back, quick),
      gating(m, n, dtype, back, quick),
    ]),
    rotating(m, c.heads, c.headDim, dtype, quick),
    headLoss(Math.min(m, 512), c.vocabSize, k, dtype),
  ];
}

/** Every op case, names unique. */
export const opCases: readonly OpCase[] = [
  product(256, 1024, 1024, 'f32', true),
  ...shapeNames.flatMap(products),
  ...shapeNames.flatMap((name) => (['f32', ...halves] as const).flatMap((dtype) => blockOf(name, dtype))),
  headLoss(64, 8192, 576, 'f32', true),
  updating(2 ** 20, true),
  updating(2 ** 24),
  chain(8, 64, 64, false, true),
  chain(8, 64, 64, true, true),
].filter((c, i, all) => all.findIndex((other) => other.name === c.name) === i);
