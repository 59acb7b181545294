import { bf16Code, bf16Value, type DType, f16Code, f16Value, type TensorSpec } from '@lowrank/kernels';
import { type RefArray, zeros } from '@lowrank/kernels/testing';

interface Elements {
  get(index: number): number;
  set(index: number, value: number): void;
}

/** The bytes from `byteOffset` on as numbers of a dtype, little-endian as every device has them. */
function elementsOf(bytes: Uint8Array, byteOffset: number, dtype: DType): Elements {
  const { buffer } = bytes;
  const at = bytes.byteOffset + byteOffset;
  const plain = (array: Float32Array | Int32Array | Uint32Array | Uint8Array): Elements => ({
    get: (i) => array[i]!,
    set: (i, v) => {
      array[i] = v;
    },
  });
  const half = (value: (code: number) => number, code: (value: number) => number): Elements => {
    const array = new Uint16Array(buffer, at, (bytes.byteLength - byteOffset) >> 1);
    return {
      get: (i) => value(array[i]!),
      set: (i, v) => {
        array[i] = code(v);
      },
    };
  };
  const words = (bytes.byteLength - byteOffset) >> 2;
  switch (dtype) {
    case 'f32':
      return plain(new Float32Array(buffer, at, words));
    case 'i32':
      return plain(new Int32Array(buffer, at, words));
    case 'u32':
      return plain(new Uint32Array(buffer, at, words));
    case 'u8':
      return plain(new Uint8Array(buffer, at));
    case 'f16':
      return half(f16Value, f16Code);
    case 'bf16':
      return half(bf16Value, bf16Code);
  }
}

/** Calls `f` with the place of each element (in elements, from element 0) and its row-major index. */
export function eachPlace(
  { shape, strides }: Pick<TensorSpec, 'shape' | 'strides'>,
  f: (place: number, i: number) => void,
): void {
  const index = new Array<number>(shape.length).fill(0);
  const size = shape.reduce((n, d) => n * d, 1);
  let place = 0;
  for (let i = 0; i < size; i++) {
    f(place, i);
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      place += strides[axis]!;
      if (++index[axis]! < shape[axis]!) break;
      place -= strides[axis]! * shape[axis]!;
      index[axis] = 0;
    }
  }
}

/** The elements of a strided window on `bytes`, element 0 at `byteOffset` (a multiple of the element's size). */
export function load(bytes: Uint8Array, byteOffset: number, spec: TensorSpec): RefArray {
  const out = zeros(spec.shape, spec.dtype);
  if (out.data.length === 0) return out;
  const from = elementsOf(bytes, byteOffset, spec.dtype);
  eachPlace(spec, (place, i) => {
    out.data[i] = from.get(place);
  });
  return out;
}

/** Writes numbers through a strided window, rounded to its dtype. */
export function store(bytes: Uint8Array, byteOffset: number, spec: TensorSpec, values: RefArray): void {
  if (values.data.length === 0) return;
  const to = elementsOf(bytes, byteOffset, spec.dtype);
  eachPlace(spec, (place, i) => to.set(place, values.data[i]!));
}
