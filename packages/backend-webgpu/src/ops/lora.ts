import {
  type Backend,
  bytesOf,
  isContiguous,
  type LinearAttrs,
  type LinearViews,
  type LoraLinear,
  type LoraLinearBackward,
  type QuantViews,
  type Refusal,
  specOf,
  type TensorSpec,
  type View,
} from '@lowrank/kernels';
import type { Launcher } from '../gpu/launcher.ts';
import type { Scratches } from '../gpu/scratch.ts';
import { jointProduct } from './joint.ts';
import { matmul } from './matmul.ts';
import { isThin, type PairGradient, type ThinProduct, thinGradients, thinProducts } from './pairs.ts';
import { type Product, runProduct } from './product.ts';
import { packed, quantProduct, scaleBytes } from './quant.ts';
import { matrixOf, transposed } from './tiles.ts';

/** Groups of linear layers with low-rank pairs, composed of products; the pair rides along with the base product's tiles. */
export function loraOps(
  launcher: Launcher,
  scratch: Scratches,
): Pick<NonNullable<Backend['fused']>, 'loraLinear' | 'loraLinearBackward'> {
  return {
    loraLinear: {
      accepts: ({ inputs }) => allPacked(inputs.layers as readonly LayerSpec[]),
      workspace: ({ inputs, attrs }) => scalesBytes(inputs.layers as readonly LayerSpec[], attrs.layers),
      run: ({ inputs, outputs, attrs, workspace }) => forward(launcher, scratch, inputs, outputs, attrs, workspace),
    },
    loraLinearBackward: {
      accepts: ({ inputs }) => allPacked(inputs.layers as readonly LayerSpec[]),
      workspace: ({ inputs, attrs }) => {
        const layers = inputs.layers as readonly LayerSpec[];
        return room(inputs.x as TensorSpec, layers, attrs.layers).total;
      },
      run: ({ inputs, outputs, attrs, workspace }) => backward(launcher, scratch, inputs, outputs, attrs, workspace),
    },
  };
}

interface LayerSpec {
  readonly quant?: { readonly [K in keyof QuantViews]: TensorSpec | undefined };
  readonly a?: TensorSpec;
}

function allPacked(layers: readonly LayerSpec[]): true | Refusal {
  for (const { quant } of layers) {
    const answer = quant ? packed(quant) : true;
    if (answer !== true) return answer;
  }
  return true;
}

/** Scales of one layer at a time. */
function scalesBytes(layers: readonly LayerSpec[], attrs: readonly LinearAttrs[]): number {
  return Math.max(0, ...layers.map(({ quant }, i) => (quant ? scaleBytes(quant, attrs[i]!.quant!) : 0)));
}

const up = (bytes: number): number => Math.ceil(bytes / 256) * 256;

/** The backward workspace: scales, then s · dy · B of all layers side by side. */
function room(x: TensorSpec, layers: readonly LayerSpec[], attrs: readonly LinearAttrs[]) {
  const g = scalesBytes(layers, attrs);
  const ranks = layers.reduce((n, { a }) => n + (a?.shape[0] ?? 0), 0);
  return { g, ranks, total: g + up(x.shape[0]! * ranks * 4) };
}

/** Columns of a matrix. */
function columns(view: View, first: number, count: number): View {
  return {
    ...view,
    shape: [view.shape[0]!, count],
    byteOffset: view.byteOffset + first * view.strides[1]! * bytesOf[view.dtype],
  };
}

function forward(
  launcher: Launcher,
  scratch: Scratches,
  { x, layers }: LoraLinear['inputs'],
  { y, h }: LoraLinear['outputs'],
  attrs: LoraLinear['attrs'],
  workspace: View | undefined,
): void {
  const m = x.shape[0]!;
  if (m === 0) return;
  const pairs = pairsOf(h, layers, attrs.layers);
  const thin = pairs.map(
    ({ a, hidden, r }): ThinProduct => ({
      ...{ x: matrixOf(x), p: matrixOf(a), y: matrixOf(hidden) },
      ...{ n: r, k: x.shape[1]!, scale: 1 },
    }),
  );
  if (!launcher.variants.software && isThin(thin)) thinProducts(launcher, 'loraLinear', m, thin);
  else
    for (const { a, hidden } of pairs)
      matmul(launcher, scratch.sums, { inputs: { a: x, b: transposed(a) }, outputs: { y: hidden }, attrs: {} });
  const joint = pairs.map((p) => ({ ...p, row: startOf(attrs.layers, p.layer) }));
  const hidden = pairs.length ? h : undefined;
  if (jointProduct(launcher, scratch, 'loraLinear', x, y, hidden, joint, layers, attrs.layers, false)) return;
  let column = 0;
  layers.forEach((layer, i) => {
    const at = attrs.layers[i]!;
    const own = columns(y, column, at.outFeatures);
    const pair = pairs.find((p) => p.layer === i);
    const extra = pair && { h: matrixOf(pair.hidden), l: matrixOf(pair.b), k2: pair.r, scale: pair.scale };
    const bias = layer.bias && { ...layer.bias, shape: own.shape, strides: [0, layer.bias.strides[0]!] };
    base(launcher, scratch, 'loraLinear', { layer, at, x, y: own, c: bias, transposed: false, extra, workspace });
    column += at.outFeatures;
  });
}

/** The column of y where a layer starts. */
function startOf(attrs: readonly LinearAttrs[], layer: number): number {
  return attrs.slice(0, layer).reduce((n, l) => n + l.outFeatures, 0);
}

/** A layer's pair: its columns of h and where they start, and of the layers that have one its number. */
interface Pair {
  readonly layer: number;
  readonly number: number;
  readonly a: View;
  readonly b: View;
  readonly r: number;
  readonly scale: number;
  readonly column: number;
  readonly hidden: View;
}

/** Those of some rank. */
function pairsOf(h: View, layers: readonly LinearViews[], attrs: readonly LinearAttrs[]): Pair[] {
  const pairs: Pair[] = [];
  let [column, number] = [0, 0];
  for (const [layer, { a, b }] of layers.entries()) {
    if (!a || !b) continue;
    const r = a.shape[0]!;
    const hidden = columns(h, column, r);
    if (r > 0) pairs.push({ layer, number, a, b, r, scale: attrs[layer]!.scale ?? 1, column, hidden });
    column += r;
    number++;
  }
  return pairs;
}

interface Base {
  readonly layer: LinearViews;
  readonly at: LinearAttrs;
  readonly x: View;
  readonly y: View;
  readonly c: View | undefined;
  readonly transposed: boolean;
  readonly extra: Product['extra'];
  readonly workspace: View | undefined;
}

/** y = x · Wᵀ (or x · W) + c + the pair's product. */
function base(
  launcher: Launcher,
  scratch: Scratches,
  op: string,
  { layer, at, x, y, c, transposed: turned, extra, workspace }: Base,
): void {
  const [m, n] = y.shape as [number, number];
  if (n === 0) return;
  if (layer.quant && at.quant) {
    quantProduct(launcher, scratch, op, {
      x,
      y,
      c,
      weight: layer.quant,
      attrs: at.quant,
      transposed: turned,
      extra,
      workspace,
    });
    return;
  }
  runProduct(launcher, scratch.sums, {
    op,
    m,
    n,
    k: x.shape[1]!,
    batch: [1, 1],
    y: matrixOf(y),
    c: c && matrixOf(c),
    a: matrixOf(x),
    b: matrixOf(turned ? transposed(layer.weight!) : layer.weight!),
    alpha: 1,
    beta: 1,
    extra,
  });
}

function backward(
  launcher: Launcher,
  scratch: Scratches,
  { dy, x, h, layers }: LoraLinearBackward['inputs'],
  { dx, da, db }: LoraLinearBackward['outputs'],
  attrs: LoraLinearBackward['attrs'],
  workspace: View | undefined,
): void {
  const op = 'loraLinearBackward';
  const [m, k] = x.shape as [number, number];
  const places = room(x, layers as readonly LayerSpec[], attrs.layers);
  // Without rows there is no workspace, and nothing to put there.
  const { buffer, byteOffset } = workspace ?? x;
  const all: View = { ...specOf([m, places.ranks], 'f32'), buffer, byteOffset: byteOffset + places.g };
  const ownOf = (layer: number) => columns(dy, startOf(attrs.layers, layer), attrs.layers[layer]!.outFeatures);
  const pairs = pairsOf(h, layers, attrs.layers).map((pair) => ({
    ...pair,
    row: startOf(attrs.layers, pair.layer),
    own: ownOf(pair.layer),
    g: columns(all, pair.column, pair.r),
    da: da[pair.number]!,
    db: db[pair.number]!,
  }));
  // Before dx, which may lie over x.
  const thin = pairs.map(
    ({ own, b, g, r, scale, layer }): ThinProduct => ({
      ...{ x: matrixOf(own), p: matrixOf(transposed(b)), y: matrixOf(g) },
      ...{ n: r, k: attrs.layers[layer]!.outFeatures, scale },
    }),
  );
  const straight = [x, h, ...da, ...db].every((v) => matrixOf(v).column === 1) && [...da, ...db].every(isContiguous);
  if (m > 0 && !launcher.variants.software && straight && isThin(thin)) {
    thinProducts(launcher, op, m, thin);
    const gradients = pairs.map(
      (p): PairGradient => ({ ...p, g: matrixOf(p.g), dy: matrixOf(p.own), h: matrixOf(p.hidden) }),
    );
    thinGradients(launcher, scratch.sums, op, matrixOf(x), m, gradients);
  } else for (const pair of pairs) gradientsOfPair(launcher, scratch, x, pair);
  if (!dx || m === 0) return;
  const hidden = pairs.length ? all : undefined;
  if (jointProduct(launcher, scratch, op, dy, dx, hidden, pairs, layers, attrs.layers, true)) return;
  // Where several layers add to a half dtype, in f32.
  const joint = layers.length > 1 && bytesOf[dx.dtype] < 4;
  const sums = joint ? scratch.gradients.take(m * k * 4) : undefined;
  let before: View | undefined;
  for (const [i, layer] of layers.entries()) {
    const last = i === layers.length - 1;
    const sum: View | undefined = last || !sums ? undefined : { ...specOf([m, k], 'f32'), buffer: sums, byteOffset: 0 };
    const target = sum ?? dx;
    const pair = pairs.find((p) => p.layer === i);
    base(launcher, scratch, op, {
      ...{ layer, at: attrs.layers[i]!, x: ownOf(i), y: target, c: before, transposed: true, workspace },
      extra: pair && { h: matrixOf(pair.g), l: matrixOf(transposed(pair.a)), k2: pair.r, scale: 1 },
    });
    before = target;
  }
}

/** g = scale · dy · B, da = gᵀ · x, db = scale · dyᵀ · h of one pair, whatever its rank, and however it lies. */
function gradientsOfPair(
  launcher: Launcher,
  { sums }: Scratches,
  x: View,
  {
    own,
    hidden,
    b,
    g,
    r,
    scale,
    da,
    db,
  }: Pair & { readonly own: View; readonly g: View; readonly da: View; readonly db: View },
): void {
  const run = (left: View, right: View, y: View, alpha: number) =>
    matmul(launcher, sums, { inputs: { a: left, b: right }, outputs: { y }, attrs: { alpha, dtype: 'f32' } });
  run(transposed(own), hidden, db, scale);
  if (x.shape[0] === 0) {
    run(emptyColumns(own, r), x, da, 1);
    return;
  }
  run(own, b, g, scale);
  run(transposed(g), x, da, 1);
}

/** [r, 0]: for a product without rows, which gives zeros. */
function emptyColumns(view: View, r: number): View {
  return { ...view, shape: [r, 0], strides: [0, 1] };
}
