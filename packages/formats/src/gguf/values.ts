/** Types of metadata values, in the order of their numbers in a file. */
export const ggufValueTypes = [
  'uint8',
  'int8',
  'uint16',
  'int16',
  'uint32',
  'int32',
  'float32',
  'bool',
  'string',
  'array',
  'uint64',
  'int64',
  'float64',
] as const;

export type GgufValueType = (typeof ggufValueTypes)[number];

/** Array items that are numbers, and the typed arrays that hold them. */
export interface GgufNumberArrays {
  uint8: Uint8Array;
  int8: Int8Array;
  uint16: Uint16Array;
  int16: Int16Array;
  uint32: Uint32Array;
  int32: Int32Array;
  float32: Float32Array;
  uint64: BigUint64Array;
  int64: BigInt64Array;
  float64: Float64Array;
}

/** An array of metadata; bools are bytes of 0 and 1, and arrays of arrays are allowed. */
export type GgufArray =
  | {
      [T in keyof GgufNumberArrays]: { type: 'array'; itemType: T; value: GgufNumberArrays[T] };
    }[keyof GgufNumberArrays]
  | { type: 'array'; itemType: 'bool'; value: Uint8Array }
  | { type: 'array'; itemType: 'string'; value: string[] }
  | { type: 'array'; itemType: 'array'; value: GgufArray[] };

/** A metadata value with its type, as needed to write it back unchanged. 64-bit integers are bigints. */
export type GgufValue =
  | { type: 'uint8' | 'int8' | 'uint16' | 'int16' | 'uint32' | 'int32' | 'float32' | 'float64'; value: number }
  | { type: 'uint64' | 'int64'; value: bigint }
  | { type: 'bool'; value: boolean }
  | { type: 'string'; value: string }
  | GgufArray;

/** Numbers of an array, other than 64-bit integers. */
export type GgufNumbers = Exclude<GgufNumberArrays[keyof GgufNumberArrays], BigUint64Array | BigInt64Array>;

/** Metadata as a reader gives it and a writer takes it, in the file's order. */
export type GgufMetadata = ReadonlyMap<string, GgufValue>;

/** The typed array of each kind of number, and with it the bytes of one (`BYTES_PER_ELEMENT`). */
export const numberArrays = {
  uint8: Uint8Array,
  int8: Int8Array,
  uint16: Uint16Array,
  int16: Int16Array,
  uint32: Uint32Array,
  int32: Int32Array,
  float32: Float32Array,
  uint64: BigUint64Array,
  int64: BigInt64Array,
  float64: Float64Array,
} as const;

export function isNumberType(type: GgufValueType): type is keyof GgufNumberArrays {
  return Object.hasOwn(numberArrays, type);
}

/** Bytes a value takes at the least, which bounds how many of them the rest of a file can hold. */
export function leastBytes(type: GgufValueType): number {
  if (isNumberType(type)) return numberArrays[type].BYTES_PER_ELEMENT;
  return type === 'bool' ? 1 : type === 'string' ? 8 : 12;
}
