/** Element types of tensors. `u8` also carries packed codes (two 4-bit codes a byte, or one 8-bit code) and booleans (0 or 1). */
export type DType = 'f32' | 'f16' | 'bf16' | 'i32' | 'u32' | 'u8';
export type FloatDType = 'f32' | 'f16' | 'bf16';

export const dtypes: readonly DType[] = ['f32', 'f16', 'bf16', 'i32', 'u32', 'u8'];
export const floatDTypes: readonly FloatDType[] = ['f32', 'f16', 'bf16'];

/** Bytes of one element. */
export const bytesOf: Readonly<Record<DType, number>> = { f32: 4, f16: 2, bf16: 2, i32: 4, u32: 4, u8: 1 };

export function isFloat(dtype: DType): dtype is FloatDType {
  return dtype === 'f32' || dtype === 'f16' || dtype === 'bf16';
}
