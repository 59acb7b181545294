import {
  type Call,
  type Dequantize,
  type FusedKernel,
  isContiguous,
  type QuantAttrs,
  type Quantize,
  type QuantMatmul,
  type QuantViews,
  quantBits,
  sizeOf,
  type TensorSpec,
  type View,
} from '@lowrank/kernels';
import { convert } from '../primitives/elementwise.ts';
import type { MatrixB } from '../primitives/gemm.ts';
import { gemmInto } from '../primitives/matmul.ts';
import { temporaryView, viewAt } from '../primitives/temporary.ts';
import type { Engine } from '../runtime/engine.ts';
import { CODES4, CODES8, lastStep, typeCode } from '../views.ts';

type WeightSpecs = { readonly codes: TensorSpec; readonly absmax: TensorSpec; readonly codebook: TensorSpec };

/** Bytes that a weight's scales take when they must be made f32 first. */
export function scaleBytes(absmax: TensorSpec): number {
  return absmax.dtype === 'u8' ? align(sizeOf(absmax.shape) * 4) : 0;
}

export function align(n: number): number {
  return Math.ceil(n / 64) * 64;
}

/** Codes and tables must lie without gaps; they always do unless someone slices them. */
export function plainWeight({ codes, absmax, codebook }: WeightSpecs): true | { refused: string } {
  return [codes, absmax, codebook].every(isContiguous)
    ? true
    : { refused: 'codes, absmax and codebook must be contiguous' };
}

/** The f32 scale of each block: absmax itself, or the double-quantized one restored at `scratch`. */
export function scales(engine: Engine, weight: QuantViews, scratch: () => number): number {
  if (weight.absmax.dtype === 'f32') return engine.pointer(weight.absmax);
  const to = scratch();
  const n = sizeOf(weight.absmax.shape);
  const { absmax, nestedAbsmax, nestedCodebook, offset } = weight;
  const args = [
    engine.pointer(absmax),
    engine.pointer(nestedAbsmax!),
    engine.pointer(nestedCodebook!),
    engine.pointer(offset!),
    to,
  ];
  engine.run('unnest', args, n, 1);
  return to;
}

/** A quantized weight [N, K] as the second operand of x·Wᵀ, or of x·W with `transposed`. */
export function codesMatrix(
  engine: Engine,
  weight: QuantViews,
  { quantType, blockSize, shape }: QuantAttrs,
  transposed: boolean,
  absmax: number,
): MatrixB {
  const k = shape[1]!;
  return {
    pointer: engine.pointer(weight.codes),
    type: quantBits[quantType] === 4 ? CODES4 : CODES8,
    row: transposed ? k : 1,
    column: transposed ? 1 : k,
    absmax,
    codebook: engine.pointer(weight.codebook),
    blockSize,
  };
}

export const quantMatmul = (engine: Engine): FusedKernel<QuantMatmul> => ({
  accepts: ({ inputs: { weight } }) => plainWeight(weight),
  workspace: ({ inputs: { x, weight }, outputs: { y } }) =>
    scaleBytes(weight.absmax) + (direct(y) && x ? 0 : align(sizeOf(y.shape) * 4)),
  run: ({ inputs: { x, weight, c }, outputs: { y }, attrs, workspace }: Call<QuantMatmul>) => {
    if (sizeOf(y.shape) === 0) return;
    const base = workspace ? engine.pointer(workspace) : 0;
    const absmax = scales(engine, weight, () => base);
    const block = direct(y) ? y : viewAt(base + scaleBytes(weight.absmax), y.shape, 'f32');
    const b = codesMatrix(engine, weight, attrs, attrs.transposed, absmax);
    gemmInto(engine, x, b, c, block, y, x.shape[1]!, 1, 1);
  },
});

/** f32 with unit stride over columns: products go straight there. */
export function direct(y: TensorSpec): boolean {
  return y.dtype === 'f32' && lastStep(y) === 1;
}

export const dequantize = (engine: Engine): FusedKernel<Dequantize> => ({
  accepts: ({ inputs: { weight } }) => plainWeight(weight),
  workspace: ({ inputs: { weight } }) => scaleBytes(weight.absmax),
  run: ({ inputs: { weight }, outputs: { y }, attrs: { quantType, blockSize }, workspace }: Call<Dequantize>) => {
    const n = sizeOf(y.shape);
    if (n === 0) return;
    const absmax = scales(engine, weight, () => engine.pointer(workspace!));
    const to = isContiguous(y) ? y : temporaryView(engine, y.shape, y.dtype);
    const type = quantBits[quantType] === 4 ? CODES4 : CODES8;
    const args = [
      type,
      engine.pointer(weight.codes),
      absmax,
      engine.pointer(weight.codebook),
      blockSize,
      engine.pointer(to),
      typeCode[to.dtype],
      n,
      4096,
    ];
    engine.run('dequantize', args, Math.ceil(n / 4096), 4096 * 0.6);
    if (to !== y) convert(engine, to, y);
  },
});

export const quantize = (engine: Engine): FusedKernel<Quantize> => ({
  accepts: ({ inputs: { x, codebook }, attrs: { blockSize } }) => {
    if (blockSize > 4096) return { refused: 'block sizes above 4096' };
    return isContiguous(x) && isContiguous(codebook) ? true : { refused: 'x and codebook must be contiguous' };
  },
  run: ({
    inputs: { x, codebook, offset },
    outputs: { codes, absmax },
    attrs: { quantType, blockSize },
  }: Call<Quantize>) => {
    const n = sizeOf(x.shape);
    if (n === 0) return;
    const dense = (view: View) => (isContiguous(view) ? view : temporaryView(engine, view.shape, view.dtype));
    const [toCodes, toAbsmax] = [dense(codes), dense(absmax)];
    const args = [
      ...[
        engine.pointer(x),
        typeCode[x.dtype],
        n,
        blockSize,
        engine.pointer(codebook),
        offset ? engine.pointer(offset) : 0,
      ],
      ...[engine.pointer(toCodes), engine.pointer(toAbsmax)],
    ];
    const four = quantBits[quantType] === 4;
    engine.run(four ? 'quantize4' : 'quantize8', args, Math.ceil(n / blockSize), blockSize * (four ? 4 : 12));
    if (toCodes !== codes) convert(engine, toCodes, codes);
    if (toAbsmax !== absmax) convert(engine, toAbsmax, absmax);
  },
});
