import { bf16ToF32, bytesOf, type DType, f16ToF32, f32ToBf16, f32ToF16 } from '@lowrank/kernels';

/** Numbers as a host array, nested or flat, or typed. */
export type HostData =
  | number
  | readonly HostData[]
  | Float32Array
  | Float64Array
  | Int32Array
  | Uint32Array
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array;

function flatten(data: HostData, out: number[]): void {
  if (typeof data === 'number') out.push(data);
  else for (const x of data as readonly HostData[]) flatten(x, out);
}

/** The shape that nested arrays have. */
export function shapeOfData(data: HostData): number[] {
  const shape: number[] = [];
  for (let x: HostData | undefined = data; typeof x === 'object'; x = (x as readonly HostData[])[0])
    shape.push((x as ArrayLike<unknown>).length);
  return shape;
}

/** Little-endian bytes of numbers in a dtype; floats round to nearest, ties to even. */
export function encode(data: HostData, dtype: DType): Uint8Array {
  let flat: ArrayLike<number>;
  if (ArrayBuffer.isView(data)) flat = data as unknown as ArrayLike<number>;
  else {
    const list: number[] = [];
    flatten(data, list);
    flat = list;
  }
  const typed =
    dtype === 'f32'
      ? Float32Array.from(flat)
      : dtype === 'i32'
        ? Int32Array.from(flat)
        : dtype === 'u32'
          ? Uint32Array.from(flat)
          : dtype === 'u8'
            ? Uint8Array.from(flat)
            : dtype === 'f16'
              ? f32ToF16(Float32Array.from(flat))
              : f32ToBf16(Float32Array.from(flat));
  return new Uint8Array(typed.buffer, typed.byteOffset, typed.byteLength);
}

/** Numbers from little-endian bytes. Halves become f32. */
export function decodeFrom(bytes: Uint8Array, dtype: DType): Float32Array | Int32Array | Uint32Array | Uint8Array {
  if (dtype === 'u8') return bytes;
  const aligned = bytes.byteOffset % bytesOf[dtype] === 0 ? bytes : bytes.slice();
  const { buffer, byteOffset } = aligned;
  const n = bytes.byteLength / bytesOf[dtype];
  switch (dtype) {
    case 'f32':
      return new Float32Array(buffer, byteOffset, n);
    case 'i32':
      return new Int32Array(buffer, byteOffset, n);
    case 'u32':
      return new Uint32Array(buffer, byteOffset, n);
    case 'f16':
      return f16ToF32(new Uint16Array(buffer, byteOffset, n));
    case 'bf16':
      return bf16ToF32(new Uint16Array(buffer, byteOffset, n));
  }
}
