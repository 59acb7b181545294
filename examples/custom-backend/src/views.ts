/** Strided views as row-major numbers. */
import { type DType, isFloat, sizeOf, type View } from '@lowrank/kernels';
import { bytesOf } from './memory.ts';

const arrays = { f32: Float32Array, i32: Int32Array, u32: Uint32Array, u8: Uint8Array };
const limits: Partial<Record<DType, [number, number]>> = {
  i32: [-(2 ** 31), 2 ** 31 - 1],
  u32: [0, 2 ** 32 - 1],
  u8: [0, 255],
};

/** All numbers of a view's buffer from its first element on; strides say which of them are the view's. */
function numbers({ buffer, byteOffset, dtype }: View): Float32Array | Int32Array | Uint32Array | Uint8Array {
  const { buffer: whole, byteLength } = bytesOf(buffer);
  const make = arrays[dtype as keyof typeof arrays]; // caps name no other dtype
  const start = Math.min(byteOffset, byteLength); // a view without elements may begin behind the end
  return new make(whole, start, Math.floor((byteLength - start) / make.BYTES_PER_ELEMENT));
}

/** Row-major: the place of each element from the first one, and its index. */
export function places(
  { shape, strides }: Pick<View, 'shape' | 'strides'>,
  f: (place: number, i: number) => void,
): void {
  let i = 0;
  const walk = (axis: number, place: number): void => {
    if (axis === shape.length) return f(place, i++);
    for (let k = 0; k < shape[axis]!; k++) walk(axis + 1, place + k * strides[axis]!);
  };
  walk(0, 0);
}

export function read(view: View): Float64Array {
  const [from, out] = [numbers(view), new Float64Array(sizeOf(view.shape))];
  places(view, (place, i) => (out[i] = from[place]!));
  return out;
}

/** Typed arrays round to f32 and keep the low bits of integers by themselves. */
export function write(view: View, value: (i: number) => number): void {
  const to = numbers(view);
  places(view, (place, i) => (to[place] = value(i)));
}

/** y, element by element, from inputs of its shape. */
export function map(y: View, inputs: readonly View[], f: (a: number, b: number, c: number) => number): void {
  const [a, b, c] = inputs.map(read);
  write(y, (i) => f(a![i]!, b?.[i] ?? 0, c?.[i] ?? 0));
}

/** Float to integer: toward zero, as far as the type goes; NaN gives 0. */
export function settled(value: number, dtype: DType): number {
  const [low, high] = limits[dtype] ?? [-Infinity, Infinity];
  return isFloat(dtype) ? value : Math.min(high, Math.max(low, Math.trunc(value) || 0));
}
