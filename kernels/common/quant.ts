import { check } from './error.ts';
import { describe, sizeOf, type TensorSpec, type View } from './view.ts';

/** Element formats of blockwise quantization: 4-bit NormalFloat and FP4 (two codes a byte, first in the high nibble), 8-bit dynamic map. */
export type QuantType = 'nf4' | 'fp4' | 'int8';

export const quantBits: Readonly<Record<QuantType, 4 | 8>> = { nf4: 4, fp4: 4, int8: 8 };

/**
 * A blockwise-quantized tensor as bitsandbytes lays it out (Dettmers et al. 2023): the tensor is flattened row-major and cut into blocks.
 * value[i] = codebook[code[i]] · scale[⌊i / blockSize⌋], with scale = absmax, or, double-quantized,
 * scale[j] = nestedCodebook[absmax[j]] · nestedAbsmax[⌊j / 256⌋] + offset[0].
 */
export interface QuantViews {
  /** u8, ⌈n·bits/8⌉ */
  readonly codes: View;
  /** f32 [blocks], or u8 [blocks] when double-quantized */
  readonly absmax: View;
  /** f32 [16] or [256] */
  readonly codebook: View;
  /** f32 [⌈blocks/256⌉] */
  readonly nestedAbsmax?: View;
  /** f32 [256] */
  readonly nestedCodebook?: View;
  /** f32 [1] */
  readonly offset?: View;
}

/** Of the tensor that is quantized. */
export interface QuantAttrs {
  readonly quantType: QuantType;
  readonly blockSize: number;
  readonly shape: readonly number[];
}

export const nestedBlockSize = 256;

export type QuantSpecs = {
  readonly [K in keyof QuantViews]: K extends 'nestedAbsmax' | 'nestedCodebook' | 'offset'
    ? TensorSpec | undefined
    : TensorSpec;
};

/** Throws unless a block size is one that bitsandbytes has. */
export function checkBlockSize(op: string, blockSize: number): void {
  check(
    Number.isInteger(blockSize) && blockSize >= 32 && blockSize <= 4096 && (blockSize & (blockSize - 1)) === 0,
    op,
    'block size must be a power of two from 32 to 4096',
    String(blockSize),
  );
}

export function checkQuant(
  op: string,
  w: {
    codes: TensorSpec;
    absmax: TensorSpec;
    codebook: TensorSpec;
    nestedAbsmax?: TensorSpec | undefined;
    nestedCodebook?: TensorSpec | undefined;
    offset?: TensorSpec | undefined;
  },
  { quantType, blockSize, shape }: QuantAttrs,
): void {
  const n = sizeOf(shape);
  const blocks = Math.ceil(n / blockSize);
  const bits = quantBits[quantType];
  checkBlockSize(op, blockSize);
  check(
    w.codes.dtype === 'u8' && sizeOf(w.codes.shape) === Math.ceil((n * bits) / 8),
    op,
    `codes must be u8 with ${bits} bits an element`,
    () => `${describe(w.codes)} for ${n} elements`,
  );
  check(
    sizeOf(w.absmax.shape) === blocks,
    op,
    'absmax must have an entry a block',
    () => `${describe(w.absmax)} for ${blocks} blocks`,
  );
  check(
    w.codebook.dtype === 'f32' && sizeOf(w.codebook.shape) === 2 ** bits,
    op,
    `codebook must be f32 [${2 ** bits}]`,
    () => describe(w.codebook),
  );
  if (w.absmax.dtype === 'u8')
    check(
      w.nestedAbsmax &&
        w.nestedCodebook &&
        w.offset &&
        sizeOf(w.nestedAbsmax.shape) === Math.ceil(blocks / nestedBlockSize),
      op,
      'u8 absmax needs nestedAbsmax (one in 256 blocks), nestedCodebook and offset',
    );
  else check(w.absmax.dtype === 'f32', op, 'absmax must be f32, or u8 when double-quantized', () => describe(w.absmax));
}
