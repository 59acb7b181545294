import { bf16Code, type DType, f16Code } from '@lowrank/kernels';

const float = new Float32Array(1);
const word = new Uint32Array(float.buffer);

const saturated = (value: number, low: number, high: number) =>
  Math.trunc(Math.min(Math.max(value || 0, low), high)) >>> 0;

/** A number as the bits of one element; integers take it truncated toward zero and saturated, NaN as 0. */
export function encodeScalar(value: number, dtype: DType): number {
  switch (dtype) {
    case 'f32':
      float[0] = value;
      return word[0]!;
    case 'f16':
      return f16Code(value);
    case 'bf16':
      return bf16Code(value);
    case 'i32':
      return saturated(value, -(2 ** 31), 2 ** 31 - 1);
    case 'u32':
      return saturated(value, 0, 2 ** 32 - 1);
    case 'u8':
      return saturated(value, 0, 255);
  }
}
