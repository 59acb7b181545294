import { FormatError, quote } from '../error.ts';

/** Bytes an element, by dtype, in the order in which the format's reference writer ranks dtypes (data is laid out last rank first). */
const bytes = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E5M2: 1,
  F8_E4M3: 1,
  I16: 2,
  U16: 2,
  F16: 2,
  BF16: 2,
  I32: 4,
  U32: 4,
  F32: 4,
  F64: 8,
  I64: 8,
  U64: 8,
} as const;

/** Element types of safetensors files, by the names they have there. */
export type SafetensorsDtype = keyof typeof bytes;

/** Every supported dtype. */
export const safetensorsDtypes = Object.keys(bytes) as SafetensorsDtype[];

/** Bytes of one element. */
export function dtypeBytes(dtype: SafetensorsDtype): number {
  return bytes[dtype];
}

/** The reference writer's rank: tensors of a higher one come first in a file, which keeps all of them aligned. */
export function dtypeRank(dtype: SafetensorsDtype): number {
  return safetensorsDtypes.indexOf(dtype);
}

function isSafetensorsDtype(name: unknown): name is SafetensorsDtype {
  return typeof name === 'string' && Object.hasOwn(bytes, name);
}

/** Product of the dimensions (1 for a scalar), or undefined when it is not a whole number below 2⁵³. */
function elementCount(shape: readonly number[]): number | undefined {
  let count = 1;
  for (const dimension of shape) {
    if (!Number.isSafeInteger(dimension) || dimension < 0) return undefined;
    count *= dimension;
    if (!Number.isSafeInteger(count)) return undefined;
  }
  return count;
}

/** Bytes of a tensor, or a `FormatError` that says what is wrong with its dtype or shape. */
export function tensorBytes(
  name: string,
  dtype: string,
  shape: readonly number[],
  place: { file: string; offset?: number },
): number {
  if (!isSafetensorsDtype(dtype)) {
    throw new FormatError('safetensors', 'dtypes must be known', {
      ...place,
      facts: `${quote(name)} has ${quote(String(dtype))}`,
      hint: `Known are ${safetensorsDtypes.join(', ')}; convert the tensor to one of them.`,
    });
  }
  const count = elementCount(shape);
  const size = count === undefined ? undefined : count * bytes[dtype];
  if (size !== undefined && Number.isSafeInteger(size)) return size;
  throw new FormatError('safetensors', 'shapes must be non-negative whole numbers with a product below 2^53', {
    ...place,
    facts: `${quote(name)} has [${shape.slice(0, 16).join(', ')}${shape.length > 16 ? ', …' : ''}]`,
  });
}
