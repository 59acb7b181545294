import {
  type Backend,
  bytesOf,
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
import { matmul } from './matmul.ts';
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
      workspace: ({ inputs, outputs, attrs }) => {
        const layers = inputs.layers as readonly LayerSpec[];
        return room(inputs.x as TensorSpec, outputs.dx as TensorSpec | undefined, layers, attrs.layers).total;
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

/** The backward workspace: scales, then s · dy · B of each layer, then dx in f32 where several layers add to a half dtype. */
function room(x: TensorSpec, dx: TensorSpec | undefined, layers: readonly LayerSpec[], attrs: readonly LinearAttrs[]) {
  const [m, k] = x.shape as [number, number];
  let end = scalesBytes(layers, attrs);
  const g = layers.map(({ a }) => {
    const at = end;
    end += up(m * (a?.shape[0] ?? 0) * 4);
    return at;
  });
  const sums = dx !== undefined && layers.length > 1 && bytesOf[dx.dtype] < 4;
  return { g, sum: end, total: end + (sums ? m * k * 4 : 0), sums };
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
  let column = 0;
  let hColumn = 0;
  layers.forEach((layer, i) => {
    const at = attrs.layers[i]!;
    const own = columns(y, column, at.outFeatures);
    let extra: Product['extra'];
    if (layer.a && layer.b) {
      const r = layer.a.shape[0]!;
      const hidden = columns(h, hColumn, r);
      if (r > 0) {
        matmul(launcher, scratch.sums, { inputs: { a: x, b: transposed(layer.a) }, outputs: { y: hidden }, attrs: {} });
        extra = { h: matrixOf(hidden), l: matrixOf(layer.b), k2: r, scale: at.scale ?? 1 };
      }
      hColumn += r;
    }
    const bias = layer.bias && { ...layer.bias, shape: own.shape, strides: [0, layer.bias.strides[0]!] };
    base(launcher, scratch, 'loraLinear', { layer, at, x, y: own, c: bias, transposed: false, extra, workspace });
    column += at.outFeatures;
  });
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
  const [m, k] = x.shape as [number, number];
  const places = room(x, dx, layers as readonly LayerSpec[], attrs.layers);
  const inWorkspace = (offset: number, shape: readonly number[]): View => ({
    ...specOf(shape, 'f32'),
    buffer: workspace!.buffer,
    byteOffset: workspace!.byteOffset + offset,
  });
  let column = 0;
  let hColumn = 0;
  let pair = 0;
  // Before dx, which may lie over x.
  const parts = layers.map((layer, i) => {
    const at = attrs.layers[i]!;
    const own = columns(dy, column, at.outFeatures);
    column += at.outFeatures;
    if (!layer.a || !layer.b) return { layer, at, own, extra: undefined };
    const r = layer.a.shape[0]!;
    const scale = at.scale ?? 1;
    const hidden = columns(h, hColumn, r);
    hColumn += r;
    matmul(launcher, scratch.sums, {
      inputs: { a: transposed(own), b: hidden },
      outputs: { y: db[pair]! },
      attrs: { alpha: scale, dtype: 'f32' },
    });
    const target = da[pair++]!;
    if (m === 0 || r === 0) {
      if (r > 0)
        matmul(launcher, scratch.sums, {
          inputs: { a: emptyColumns(own, r), b: x },
          outputs: { y: target },
          attrs: { dtype: 'f32' },
        });
      return { layer, at, own, extra: undefined };
    }
    const g = inWorkspace(places.g[i]!, [m, r]);
    matmul(launcher, scratch.sums, {
      inputs: { a: own, b: layer.b },
      outputs: { y: g },
      attrs: { alpha: scale, dtype: 'f32' },
    });
    matmul(launcher, scratch.sums, {
      inputs: { a: transposed(g), b: x },
      outputs: { y: target },
      attrs: { dtype: 'f32' },
    });
    return { layer, at, own, extra: { h: matrixOf(g), l: matrixOf(transposed(layer.a)), k2: r, scale: 1 } };
  });
  if (!dx || m === 0) return;
  let before: View | undefined;
  for (const [i, { layer, at, own, extra }] of parts.entries()) {
    const last = i === layers.length - 1;
    const target = last || !places.sums ? dx : inWorkspace(places.sum, [m, k]);
    base(launcher, scratch, 'loraLinearBackward', {
      layer,
      at,
      x: own,
      y: target,
      c: before,
      transposed: true,
      extra,
      workspace,
    });
    before = target;
  }
}

/** [r, 0]: for a product without rows, which gives zeros. */
function emptyColumns(view: View, r: number): View {
  return { ...view, shape: [r, 0], strides: [0, 1] };
}
