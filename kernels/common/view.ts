import { bytesOf, type DType } from './dtype.ts';

/** A block of device memory. Backends extend it with their own handle; everyone else treats it as opaque. */
export interface DeviceBuffer {
  readonly byteLength: number;
}

/** What is known of a tensor without its memory: enough to infer shapes, to refuse a kernel, to count bytes. */
export interface TensorSpec {
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** In elements, never negative; 0 repeats (broadcast). Destinations have no zero strides on axes longer than 1. */
  readonly strides: readonly number[];
}

/** A strided window on a buffer. Element (i, j, …) lies at `byteOffset + bytesOf[dtype] · (i·strides[0] + j·strides[1] + …)`. */
export interface View extends TensorSpec {
  readonly buffer: DeviceBuffer;
  /** Of element (0, …, 0), from the start of the buffer; a multiple of the element's size. */
  readonly byteOffset: number;
}

/** Number of elements. */
export function sizeOf(shape: readonly number[]): number {
  let n = 1;
  for (const d of shape) n *= d;
  return n;
}

/** Row-major strides, in elements. */
export function contiguousStrides(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length);
  let step = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = step;
    step *= shape[i]!;
  }
  return strides;
}

/** Row-major without gaps; axes of length 1 may have any stride. Empty tensors are contiguous. */
export function isContiguous(spec: Pick<TensorSpec, 'shape' | 'strides'>): boolean {
  let step = 1;
  for (let i = spec.shape.length - 1; i >= 0; i--) {
    const d = spec.shape[i]!;
    if (d === 0) return true;
    if (d !== 1) {
      if (spec.strides[i] !== step) return false;
      step *= d;
    }
  }
  return true;
}

/** The contiguous spec of a shape. */
export function specOf(shape: readonly number[], dtype: DType): TensorSpec {
  return { dtype, shape, strides: contiguousStrides(shape) };
}

/** Bytes from the first to one past the last element that a spec reaches; 0 when empty. */
export function extentBytes(spec: TensorSpec): number {
  let last = 0;
  for (let i = 0; i < spec.shape.length; i++) {
    const d = spec.shape[i]!;
    if (d === 0) return 0;
    last += (d - 1) * spec.strides[i]!;
  }
  return (last + 1) * bytesOf[spec.dtype];
}

export function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((d, i) => d === b[i]);
}

/** For messages: `[4,8] f32`. */
export function describe(spec: Pick<TensorSpec, 'shape' | 'dtype'>): string {
  return `[${spec.shape.join(',')}] ${spec.dtype}`;
}
