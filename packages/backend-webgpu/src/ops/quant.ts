import {
  type Backend,
  bytesOf,
  type Dequantize,
  type FusedKernel,
  fp4Bounds,
  fp4Codes,
  isContiguous,
  nf4Bounds,
  type QuantAttrs,
  type Quantize,
  type QuantMatmul,
  type QuantType,
  type QuantViews,
  quantBits,
  type Refusal,
  sizeOf,
  specOf,
  type TensorSpec,
  type View,
} from '@lowrank/kernels';
import type { Arg, Launcher } from '../gpu/launcher.ts';
import type { Scratches } from '../gpu/scratch.ts';
import { elementwise } from '../gpu/strided.ts';
import { type Product, runProduct } from './product.ts';
import { matrixOf, transposed } from './tiles.ts';

type QuantOps = 'quantize' | 'dequantize' | 'quantMatmul';
type QuantSpecs = { readonly [K in keyof QuantViews]: TensorSpec | undefined };

/** Ops on blockwise-quantized tensors. */
export function quantOps(launcher: Launcher, scratch: Scratches): Pick<NonNullable<Backend['fused']>, QuantOps> {
  const quantize: FusedKernel<Quantize> = {
    accepts: ({ outputs }) => isContiguous(outputs.codes) || { refused: 'codes must be contiguous' },
    run: ({ inputs, outputs, attrs }) => runQuantize(launcher, inputs, outputs, attrs),
  };
  const dequantize: FusedKernel<Dequantize> = {
    accepts: ({ inputs }) => packed(inputs.weight as QuantSpecs),
    workspace: ({ inputs, outputs, attrs }) =>
      isContiguous(outputs.y)
        ? tailBytes(inputs.weight as QuantSpecs, attrs)
        : scaleBytes(inputs.weight as QuantSpecs, attrs),
    run: ({ inputs, outputs, attrs, workspace }) => runDequantize(launcher, inputs.weight, outputs.y, attrs, workspace),
  };
  const quantMatmul: FusedKernel<QuantMatmul> = {
    accepts: ({ inputs }) => packed(inputs.weight as QuantSpecs),
    workspace: ({ inputs, attrs }) => scaleBytes(inputs.weight as QuantSpecs, attrs),
    run: ({ inputs: { x, weight, c }, outputs: { y }, attrs, workspace }) =>
      quantProduct(launcher, scratch, 'quantMatmul', {
        x,
        y,
        c,
        weight,
        attrs,
        transposed: attrs.transposed,
        workspace,
      }),
  };
  return { quantize, dequantize, quantMatmul };
}

/** Every part must lie side by side; that is how quantized tensors are made. */
export function packed(weight: QuantSpecs): true | Refusal {
  for (const [name, spec] of Object.entries(weight))
    if (spec && !isContiguous(spec)) return { refused: `${name} of the quantized weight must be contiguous` };
  return true;
}

function blocksOf({ shape, blockSize }: QuantAttrs): number {
  return Math.ceil(sizeOf(shape) / blockSize);
}

/** Workspace for the f32 scales of a double-quantized weight. */
export function scaleBytes(weight: QuantSpecs, attrs: QuantAttrs): number {
  return weight.absmax?.dtype === 'u8' ? Math.ceil((blocksOf(attrs) * 4) / 256) * 256 : 0;
}

/** The same, where only the end of the tensor is done an element at a time. */
function tailBytes(weight: QuantSpecs, attrs: QuantAttrs): number {
  const elements = 32 / quantBits[attrs.quantType];
  return sizeOf(attrs.shape) % elements === 0 ? 0 : scaleBytes(weight, attrs);
}

/** The f32 scales of a weight's blocks: its absmax, or made in `workspace`. */
function scalesOf(launcher: Launcher, weight: QuantViews, attrs: QuantAttrs, workspace: View | undefined): View {
  if (weight.absmax.dtype === 'f32') return flatView(weight.absmax);
  const scales: View = {
    ...specOf([blocksOf(attrs)], 'f32'),
    buffer: workspace!.buffer,
    byteOffset: workspace!.byteOffset,
  };
  elementwise(launcher, {
    op: 'dequantize',
    file: 'dequantize/scales.wgsl',
    shape: scales.shape,
    y: { view: scales },
    a: { view: flatView(weight.absmax) },
    extras: {
      nested: { view: weight.nestedAbsmax!, offset: 'u0' },
      book: { view: weight.nestedCodebook!, offset: 'u1' },
      offset: { view: weight.offset!, offset: 'u2' },
    },
  });
  return scales;
}

function flatView(view: View): View {
  return { ...view, shape: [sizeOf(view.shape)], strides: [1] };
}

/** A weight and where it goes, contiguous. */
export interface Dequantized {
  readonly weight: QuantViews;
  readonly y: View;
  readonly attrs: QuantAttrs;
}

/** Most weights of a dispatch. */
const mostParts = 3;

/** Words of codes that go by vectors; what does not make a word goes an element at a time. */
function wholeWords({ gpu }: Launcher, { weight, y, attrs }: Dequantized): number {
  const aligned = isContiguous(y) && y.byteOffset % 16 === 0 && weight.codes.byteOffset % 4 === 0;
  const fits = [y, weight.codes].every((v) => v.buffer.byteLength <= gpu.maxBinding);
  return aligned && fits ? Math.floor(sizeOf(y.shape) / (32 / quantBits[attrs.quantType])) : 0;
}

/** y = the weight, contiguous. `workspace` has room for `tailBytes`. */
function runDequantize(
  launcher: Launcher,
  weight: QuantViews,
  y: View,
  attrs: QuantAttrs,
  workspace: View | undefined,
): void {
  const n = sizeOf(y.shape);
  if (n === 0) return;
  const words = wholeWords(launcher, { weight, y, attrs });
  if (words > 0) wordsOf(launcher, y, [{ weight, y, attrs }]);
  const done = words * (32 / quantBits[attrs.quantType]);
  if (done === n) return;
  const rest: View =
    done === 0
      ? y
      : { ...specOf([n - done], y.dtype), buffer: y.buffer, byteOffset: y.byteOffset + done * bytesOf[y.dtype] };
  elementwise(launcher, {
    op: 'dequantize',
    file: 'dequantize/element.wgsl',
    shape: rest.shape,
    start: done,
    y: { view: rest },
    extras: {
      w: { view: weight.codes, offset: 'u0' },
      s: { view: scalesOf(launcher, weight, attrs, workspace), offset: 'u1' },
      t: { view: weight.codebook, offset: 'u2' },
    },
    defines: { BITS: quantBits[attrs.quantType] },
    words: { u3: Math.log2(attrs.blockSize) },
  });
}

/** Several weights into parts of one tensor, as many in a dispatch as the device has bindings for. Each makes whole words (`apartDtype`). */
export function dequantizeGroup(launcher: Launcher, y: View, group: readonly Dequantized[]): void {
  const nested = ({ weight }: Dequantized) => weight.absmax.dtype === 'u8';
  for (let at = 0; at < group.length; ) {
    const first = group[at]!;
    const buffers = ({ weight }: Dequantized) => Object.values(weight).map((v) => (v as View | undefined)?.buffer);
    const fits = (some: readonly Dequantized[]) =>
      1 + new Set(some.flatMap(buffers)).size <= launcher.gpu.maxStorageBuffers;
    const alike = (d: Dequantized) =>
      wholeWords(launcher, d) > 0 &&
      nested(d) === nested(first) &&
      quantBits[d.attrs.quantType] === quantBits[first.attrs.quantType];
    let count = 1;
    while (
      count < Math.min(mostParts, group.length - at) &&
      [first, group[at + count]!].every(alike) &&
      fits(group.slice(at, at + count + 1))
    )
      count++;
    if (count > 1) wordsOf(launcher, y, group.slice(at, at + count));
    else runDequantize(launcher, first.weight, first.y, first.attrs, undefined);
    at += count;
  }
}

/** Words of codes of up to `mostParts` weights of the same kind, into parts of y. */
function wordsOf(launcher: Launcher, y: View, group: readonly Dequantized[]): void {
  const [{ weight: some, attrs }] = group as readonly [Dequantized];
  const nested = some.absmax.dtype === 'u8';
  const bits = quantBits[attrs.quantType];
  const size = bytesOf[y.dtype];
  const wide = bits === 4 && size === 2;
  const each = nested ? 6 : 3;
  const bound = launcher.bind('dequantize', [
    { name: 'y', view: y, write: true, vector: wide || size === 4 ? 4 : 2 },
    ...group.flatMap(({ weight }, p): Arg[] => [
      { name: `w${p}`, view: weight.codes, shares: true },
      { name: `s${p}`, view: weight.absmax, shares: true },
      { name: `t${p}`, view: weight.codebook, shares: true },
      ...(nested
        ? [
            { name: `nested${p}`, view: weight.nestedAbsmax!, shares: true },
            { name: `book${p}`, view: weight.nestedCodebook!, shares: true },
            { name: `offset${p}`, view: weight.offset!, shares: true },
          ]
        : []),
    ]),
  ]);
  const words = group.map((d) => wholeWords(launcher, d));
  const params = launcher.params.start();
  for (let p = 0; p < mostParts; p++) {
    const part = group[p];
    const at = (i: number) => (i < each ? (bound.offsets[1 + p * each + i] ?? 0) : 0);
    if (!part) params.u32(...new Array<number>(12).fill(0));
    else
      params.u32(
        words[p]!,
        bound.offsets[0]! + (part.y.byteOffset - y.byteOffset) / size,
        ...[at(0), at(1), at(2), at(3), at(4), at(5)],
        ...[Math.log2(part.attrs.blockSize), 0, 0, 0],
      );
  }
  params.u32(0);
  const defines = { BITS: bits, NESTED: nested, WIDE: wide, PARTS: group.length };
  const count = Math.ceil(Math.max(...words) / 1024);
  const rows = Math.ceil(count / 65535);
  launcher.launch(bound, 'dequantize/dequantize.wgsl', defines, Math.ceil(count / rows), rows, group.length);
}

/** The decision bounds and codes of the 4-bit types, for the shader. */
function decisions(type: QuantType): Record<string, string | number> {
  if (type === 'int8') return {};
  const bounds = type === 'nf4' ? nf4Bounds : fp4Bounds;
  const code = (n: number) => (type === 'nf4' ? n : fp4Codes[n]!);
  const defines: Record<string, string | number> = { CODE_0: code(0) };
  bounds.forEach((bound, i) => {
    defines[`BOUND_${i}`] = Math.fround(bound).toExponential();
    defines[`CODE_AFTER_${i}`] = code(i + 1);
  });
  return defines;
}

function runQuantize(
  launcher: Launcher,
  { x, codebook, offset }: Quantize['inputs'],
  { codes, absmax }: Quantize['outputs'],
  { quantType, blockSize }: Quantize['attrs'],
): void {
  const count = sizeOf(x.shape);
  if (count === 0) return;
  const onWords = codes.byteOffset % 4 === 0;
  const int8 = quantType === 'int8';
  const args: Arg[] = [
    { name: 'codes', view: codes, write: true, atomic: !onWords },
    { name: 'absmax', view: absmax, write: true },
    { name: 'x', view: x },
  ];
  if (int8) args.push({ name: 't', view: codebook });
  if (offset) args.push({ name: 'offset', view: offset });
  const bound = launcher.bind('quantize', args);
  const at = (name: string) => bound.offsets[args.findIndex((a) => a.name === name)] ?? 0;
  const blocks = Math.ceil(count / blockSize);
  launcher.params
    .start()
    .u32(count, blockSize, blocks, at('x'), at('codes'), at('absmax'), absmax.strides[0]!, at('t'), at('offset'), 0);
  launcher.launchFlat(
    bound,
    'quantize/quantize.wgsl',
    { TYPE: quantType, WORDS: onWords, OFFSET: offset !== undefined, ...decisions(quantType) },
    blocks,
  );
}

/** y = x · Wᵀ (or x · W, transposed) + c, and perhaps h · lᵀ · scale. */
export interface QuantProduct {
  readonly x: View;
  readonly y: View;
  readonly c?: View | undefined;
  readonly weight: QuantViews;
  readonly attrs: QuantAttrs;
  readonly transposed: boolean;
  readonly extra?: Product['extra'];
  /** Room for `scaleBytes`. */
  readonly workspace: View | undefined;
}

/**
 * With W dequantized on its way into each tile; or, for so many rows that the tiles would do that many times over, once and for all into
 * scratch before.
 */
export function quantProduct(launcher: Launcher, scratch: Scratches, op: string, q: QuantProduct): void {
  const [rows, width] = q.attrs.shape as [number, number];
  const [m, n] = q.y.shape as [number, number];
  if (m === 0 || n === 0) return;
  const product = {
    op,
    m,
    n,
    k: q.transposed ? rows : width,
    batch: [1, 1],
    y: matrixOf(q.y),
    c: q.c && matrixOf(q.c),
    a: matrixOf(q.x),
    alpha: 1,
    beta: 1,
    extra: q.extra,
  } as const;
  const apart = apartDtype(launcher, q);
  if (apart) {
    const buffer = scratch.weights.take(rows * width * bytesOf[apart]);
    const w: View = { ...specOf([rows, width], apart), buffer, byteOffset: 0 };
    runDequantize(launcher, q.weight, w, q.attrs, undefined);
    runProduct(launcher, scratch.sums, { ...product, b: matrixOf(q.transposed ? transposed(w) : w) });
    return;
  }
  runProduct(launcher, scratch.sums, {
    ...product,
    quant: {
      codes: q.weight.codes,
      scales: scalesOf(launcher, q.weight, q.attrs, q.workspace),
      codebook: q.weight.codebook,
      bits: quantBits[q.attrs.quantType],
      transposed: q.transposed,
      width,
      shift: Math.log2(q.attrs.blockSize),
    },
  });
}

/** What a weight is dequantized to before the product; undefined where the tiles do it. f16 only where tiles would round to it, too. */
export function apartDtype(
  { variants, gpu }: Launcher,
  { x, attrs, weight }: Pick<QuantProduct, 'x' | 'attrs' | 'weight'>,
): 'f16' | 'f32' | undefined {
  const count = sizeOf(attrs.shape);
  const dtype =
    variants.matrix && x.dtype === 'f16' && attrs.shape[1]! % 8 === 0 && attrs.shape[0]! % 8 === 0 ? 'f16' : 'f32';
  if (x.shape[0]! < variants.apart[dtype] || count % (32 / quantBits[attrs.quantType]) !== 0) return undefined;
  const fits = count * bytesOf[dtype] <= gpu.maxBinding && weight.codes.buffer.byteLength <= gpu.maxBinding;
  return fits && weight.codes.byteOffset % 4 === 0 ? dtype : undefined;
}
