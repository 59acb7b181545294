import { type LinearAttrs, type LinearViews, specOf, type View } from '@lowrank/kernels';
import type { Launcher } from '../gpu/launcher.ts';
import type { Scratches } from '../gpu/scratch.ts';
import { mostPairs } from './pairs.ts';
import { runProduct } from './product.ts';
import { apartDtype, dequantizeGroup } from './quant.ts';
import { matrixOf, transposed } from './tiles.ts';

/** Bytes of f16 up to which the weights of a group are dequantized side by side: large ones fill a device by themselves. */
const mostBytes = 2 ** 25;

/** A pair of a group for one product: where its rows start in the group's outputs, and its columns in h and g. */
export interface JointPair {
  readonly a: View;
  readonly b: View;
  readonly r: number;
  readonly scale: number;
  readonly row: number;
  readonly column: number;
}

/**
 * y = x · [Wᵢ]ᵀ + h · [sᵢBᵢ]ᵀ of a whole group, or backward dx = dy · [Wᵢ] + g · [Aᵢ], as one product on subgroup matrices: the weights
 * dequantized side by side, the pairs packed into one matrix. `hidden` is h or g, [m, Σr]. False where the group cannot go so; then nothing
 * was enqueued.
 */
export function jointProduct(
  launcher: Launcher,
  scratch: Scratches,
  op: string,
  x: View,
  y: View,
  hidden: View | undefined,
  pairs: readonly JointPair[],
  layers: readonly LinearViews[],
  attrs: readonly LinearAttrs[],
  backward: boolean,
): boolean {
  const [m] = y.shape as [number, number];
  const width = (backward ? y : x).shape[1]!;
  const rows = attrs.reduce((n, { outFeatures }) => n + outFeatures, 0);
  const columns = hidden?.shape[1] ?? 0;
  const takes = layers.every(
    ({ quant, bias }, i) =>
      quant && (backward || !bias) && apartDtype(launcher, { x, attrs: attrs[i]!.quant!, weight: quant }) === 'f16',
  );
  const fits = rows * width * 2 <= Math.min(mostBytes, launcher.gpu.maxBinding);
  if (layers.length < 2 || !takes || !fits || pairs.length > mostPairs || pairs.some(({ r }) => r % 8 !== 0))
    return false;
  const w: View = { ...specOf([rows, width], 'f16'), buffer: scratch.weights.take(rows * width * 2), byteOffset: 0 };
  let row = 0;
  const parts = layers.map(({ quant }, i) => {
    const { outFeatures, quant: how } = attrs[i]!;
    const own: View = { ...specOf([outFeatures, width], 'f16'), buffer: w.buffer, byteOffset: row * width * 2 };
    row += outFeatures;
    return { weight: quant!, y: own, attrs: how! };
  });
  dequantizeGroup(launcher, w, parts);
  const packed = pairs.length
    ? pack(launcher, scratch, op, backward ? [columns, width] : [rows, columns], pairs, backward)
    : undefined;
  runProduct(launcher, scratch.sums, {
    ...{ op, m, n: y.shape[1]!, k: x.shape[1]!, batch: [1, 1], alpha: 1, beta: 1 },
    ...{ y: matrixOf(y), a: matrixOf(x), b: matrixOf(backward ? transposed(w) : w) },
    extra: packed && {
      ...{ h: matrixOf(hidden!), l: matrixOf(backward ? transposed(packed) : packed), k2: columns, scale: 1 },
    },
  });
  return true;
}

/** [sᵢBᵢ] along the diagonal, or [Aᵢ] one below the other, in f16. */
function pack(
  launcher: Launcher,
  scratch: Scratches,
  op: string,
  shape: readonly [number, number],
  pairs: readonly JointPair[],
  backward: boolean,
): View {
  const [rows, columns] = shape;
  const y: View = { ...specOf(shape, 'f16'), buffer: scratch.pairs.take(rows * columns * 2), byteOffset: 0 };
  const bound = launcher.bind(op, [
    { name: 'y', view: y, write: true, vector: 4 },
    ...pairs.map(({ a, b }, i) => ({ name: `p${i}`, view: backward ? a : b })),
  ]);
  const params = launcher.params.start();
  for (let i = 0; i < mostPairs; i++) {
    const pair = pairs[i];
    if (!pair) {
      params.u32(...new Array<number>(8).fill(0));
      continue;
    }
    const { a, b, r, row, column, scale } = pair;
    const { view, row: down, column: right } = matrixOf(backward ? a : b);
    const place = backward ? [column, r, 0, columns] : [row, view.shape[0]!, column, r];
    params.u32(...place, bound.offsets[1 + i]!, down, right).f32(backward ? 1 : scale);
  }
  params.u32(rows, columns / 8);
  const groups = Math.ceil((rows * columns) / 8 / 256);
  launcher.launch(bound, 'lora-linear/pack.wgsl', { PAIRS: pairs.length }, groups);
  return y;
}
