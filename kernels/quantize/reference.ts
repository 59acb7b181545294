import { fp4Bounds, fp4Codes, nf4Bounds } from '../common/codebooks.ts';
import type { QuantType } from '../common/quant.ts';
import { defineReference, zeros } from '../common/reference.ts';
import type { Quantize } from './contract.ts';

const f = Math.fround;
/** Smallest divisor of 4-bit blocks; a subnormal f32. */
const floor4 = f(1e-38);

/** How many of the ascending `bounds` are smaller than x (strict). */
function countBelow(bounds: ArrayLike<number>, x: number): number {
  let n = 0;
  while (n < bounds.length && bounds[n]! < x) n++;
  return n;
}

/** The code of a scaled value in [−1, 1] (f32) in a 4-bit type. */
function code4(x: number, type: 'nf4' | 'fp4'): number {
  return type === 'nf4' ? countBelow(nf4Bounds, x) : fp4Codes[countBelow(fp4Bounds, x)]!;
}

/** 8 bits: the value picks one of 65,536 bins, and the bin's own value is compared with the midpoints of the codebook. All in f32. */
function code8(x: number, midpoints: Float64Array): number {
  const bin = Math.trunc(f(f(f(f(x + 1) * 0.5) * 65535) + 0.5));
  return countBelow(midpoints, f(-1 + f(f(2 * bin) / 65535)));
}

function clamp(x: number): number {
  return Math.min(Math.max(x, -1), 1);
}

/** Codes of one block and the absmax that is stored for it. `x` in f32. */
function quantizeBlock(
  x: readonly number[],
  type: QuantType,
  whole: boolean,
  midpoints: Float64Array,
): { codes: number[]; absmax: number } {
  let absmax = x.reduce((max, v) => Math.max(max, Math.abs(v)), 0);
  if (type === 'int8') {
    if (absmax === 0) return { codes: x.map(() => 0), absmax };
    const inverse = f(1 / absmax);
    return { codes: x.map((v) => code8(clamp(f(v * inverse)), midpoints)), absmax };
  }
  const divisor = Math.max(absmax, floor4);
  if (!whole) absmax = divisor; // the short block at the end divides, and stores what it divided by
  const inverse = f(1 / divisor);
  return { codes: x.map((v) => code4(clamp(whole ? f(v * inverse) : f(v / divisor)), type)), absmax };
}

/** Byte for byte what bitsandbytes' CPU path makes; every step rounds to f32. */
export const reference = defineReference<Quantize>(({ x, codebook, offset }, { quantType, blockSize }) => {
  const n = x.data.length;
  const minus = offset ? offset.data[0]! : 0;
  const values = Array.from(x.data, (v) => f(v - minus));
  const midpoints = Float64Array.from({ length: Math.max(codebook.data.length - 1, 0) }, (_, i) =>
    f(0.5 * f(codebook.data[i]! + codebook.data[i + 1]!)),
  );
  const codes: number[] = [];
  const absmax = zeros([Math.ceil(n / blockSize)], 'f32');
  for (let j = 0; j * blockSize < n; j++) {
    const block = values.slice(j * blockSize, (j + 1) * blockSize);
    const made = quantizeBlock(block, quantType, block.length === blockSize, midpoints);
    codes.push(...made.codes);
    absmax.data[j] = made.absmax;
  }
  if (quantType === 'int8') return { codes: { dtype: 'u8', shape: [n], data: Float64Array.from(codes) }, absmax };
  if (n % 2) codes.push(code4(0, quantType));
  const packed = zeros([Math.ceil(n / 2)], 'u8');
  for (let i = 0; i < packed.data.length; i++) packed.data[i] = codes[2 * i]! * 16 + codes[2 * i + 1]!;
  return { codes: packed, absmax };
});
