import { FormatError } from '../error.ts';

/** ggml's tensor types: id in the file, elements a block, bytes a block. */
const types = {
  F32: [0, 1, 4],
  F16: [1, 1, 2],
  Q4_0: [2, 32, 18],
  Q4_1: [3, 32, 20],
  Q5_0: [6, 32, 22],
  Q5_1: [7, 32, 24],
  Q8_0: [8, 32, 34],
  Q8_1: [9, 32, 40],
  Q2_K: [10, 256, 84],
  Q3_K: [11, 256, 110],
  Q4_K: [12, 256, 144],
  Q5_K: [13, 256, 176],
  Q6_K: [14, 256, 210],
  Q8_K: [15, 256, 292],
  IQ2_XXS: [16, 256, 66],
  IQ2_XS: [17, 256, 74],
  IQ3_XXS: [18, 256, 98],
  IQ1_S: [19, 256, 50],
  IQ4_NL: [20, 32, 18],
  IQ3_S: [21, 256, 110],
  IQ2_S: [22, 256, 82],
  IQ4_XS: [23, 256, 136],
  I8: [24, 1, 1],
  I16: [25, 1, 2],
  I32: [26, 1, 4],
  I64: [27, 1, 8],
  F64: [28, 1, 8],
  IQ1_M: [29, 256, 56],
  BF16: [30, 1, 2],
  TQ1_0: [34, 256, 54],
  TQ2_0: [35, 256, 66],
  MXFP4: [39, 32, 17],
  NVFP4: [40, 64, 36],
  Q1_0: [41, 128, 18],
} as const;

/** Tensor types of GGUF files that can be located and copied. `dequantizeBlocks` reads those of `DequantizableType`. */
export type GgufType = keyof typeof types;

/** Types whose blocks can be turned into f32. */
export const dequantizableTypes = [
  'F32',
  'F16',
  'BF16',
  'Q4_0',
  'Q4_1',
  'Q5_0',
  'Q5_1',
  'Q8_0',
  'Q2_K',
  'Q3_K',
  'Q4_K',
  'Q5_K',
  'Q6_K',
] as const satisfies GgufType[];

export type DequantizableType = (typeof dequantizableTypes)[number];

/** Types that f32 values can be turned into. */
export const quantizableTypes = ['F32', 'F16', 'BF16', 'Q8_0'] as const satisfies GgufType[];

export type QuantizableType = (typeof quantizableTypes)[number];

const byId = new Map<number, GgufType>(Object.entries(types).map(([name, [id]]) => [id, name as GgufType]));

/** The type of a number in a file, or undefined when ggml has none (or no longer has it). */
export function ggufTypeOf(id: number): GgufType | undefined {
  return byId.get(id);
}

/** The number of a type in a file. */
export function ggufTypeId(type: GgufType): number {
  return types[type][0];
}

/** Elements and bytes of one block of a type. Throws `FormatError` for a name that is no type. */
export function blockOf(type: GgufType): { elements: number; bytes: number } {
  if (!Object.hasOwn(types, type)) {
    throw new FormatError('gguf', 'the tensor type must be known', {
      file: 'gguf',
      facts: `got ${JSON.stringify(type)}`,
    });
  }
  return { elements: types[type][1], bytes: types[type][2] };
}

/** Whether blocks of `type` can be turned into f32. */
export function isDequantizable(type: GgufType): type is DequantizableType {
  return (dequantizableTypes as readonly GgufType[]).includes(type);
}

/** The error for a type that can be located but not read. */
export function unsupportedType(type: string, file: string, tensor?: { name: string; offset: number }): FormatError {
  return new FormatError('gguf', 'the tensor type must be one that can be dequantized', {
    file,
    offset: tensor?.offset,
    facts: tensor === undefined ? `got ${type}` : `${JSON.stringify(tensor.name)} is ${type}`,
    hint:
      `Readable are ${dequantizableTypes.join(', ')}. Use a file in one of them, ` +
      'or convert this one: llama-quantize --allow-requantize in.gguf out.gguf Q8_0.',
  });
}
