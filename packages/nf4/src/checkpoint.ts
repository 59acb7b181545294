import { check, type DType, LowrankError, nestedBlockSize, type QuantAttrs, sizeOf } from '@lowrank/tensor';
import type { BlockwiseWeight } from './weight.ts';

/** The JSON of `<weight>.quant_state.bitsandbytes__nf4`, as bitsandbytes writes it. */
interface QuantState {
  quant_type: 'nf4' | 'fp4';
  blocksize: number;
  dtype: string;
  shape: number[];
  nested_blocksize?: number;
  nested_dtype?: string;
  nested_offset?: number;
}

/** One tensor of a checkpoint: raw little-endian bytes. */
export interface CheckpointTensor {
  readonly dtype: 'U8' | 'F32' | 'F16' | 'BF16';
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

const bnbNames: Partial<Record<DType, string>> = { f32: 'float32', f16: 'float16', bf16: 'bfloat16' };

/** The tensors that bitsandbytes stores for a 4-bit weight, by full name. `dtype` is that of the values before quantization. */
export async function toBnbTensors(
  name: string,
  weight: BlockwiseWeight,
  dtype: 'f32' | 'f16' | 'bf16' = 'f32',
): Promise<Map<string, CheckpointTensor>> {
  const { quantType, blockSize, shape } = weight.attrs;
  check(quantType !== 'int8', 'toBnbTensors', 'bitsandbytes checkpoints hold nf4 or fp4', quantType);
  const { codes, absmax, codebook, nestedAbsmax, nestedCodebook, offset } = weight.quant;
  const f32 = async (t: typeof codes): Promise<CheckpointTensor> => ({
    dtype: 'F32',
    shape: [t.size],
    data: await t.bytes(),
  });
  const state: QuantState = { quant_type: quantType, blocksize: blockSize, dtype: bnbNames[dtype]!, shape: [...shape] };
  const out = new Map<string, CheckpointTensor>([
    [name, { dtype: 'U8', shape: [codes.size, 1], data: await codes.bytes() }],
    [
      `${name}.absmax`,
      nestedAbsmax ? { dtype: 'U8', shape: [absmax.size], data: await absmax.bytes() } : await f32(absmax),
    ],
    [`${name}.quant_map`, await f32(codebook)],
  ]);
  if (nestedAbsmax && nestedCodebook && offset) {
    out
      .set(`${name}.nested_absmax`, await f32(nestedAbsmax))
      .set(`${name}.nested_quant_map`, await f32(nestedCodebook));
    Object.assign(state, {
      nested_blocksize: nestedBlockSize,
      nested_dtype: 'float32',
      nested_offset: await offset.item(),
    });
  }
  const json = new TextEncoder().encode(JSON.stringify(state));
  out.set(`${name}.quant_state.bitsandbytes__${quantType}`, { dtype: 'U8', shape: [json.length], data: json });
  return out;
}

/** Reads the JSON of a 4-bit weight; throws where it is not what this package can run. */
export function parseQuantState(
  name: string,
  json: Uint8Array,
): { attrs: QuantAttrs; offset: number | undefined; dtype: 'f32' | 'f16' | 'bf16' } {
  let state: QuantState;
  try {
    state = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(json)) as QuantState;
  } catch (error) {
    throw new LowrankError('load', 'the quantization state is not JSON', name, '', { cause: error });
  }
  check(
    state !== null && typeof state === 'object',
    'load',
    'the quantization state must hold an object',
    () => `${name}: ${JSON.stringify(state)}`,
  );
  const dtype = (Object.keys(bnbNames) as ('f32' | 'f16' | 'bf16')[]).find((d) => bnbNames[d] === state.dtype);
  check(
    state.quant_type === 'nf4' || state.quant_type === 'fp4',
    'load',
    'unknown quant_type',
    () => `${name}: ${state.quant_type}`,
  );
  check(dtype, 'load', 'unknown dtype in the quantization state', () => `${name}: ${state.dtype}`);
  check(
    Array.isArray(state.shape) &&
      state.shape.length === 2 &&
      state.shape.every((d) => Number.isInteger(d) && d > 0) &&
      sizeOf(state.shape) < 2 ** 40,
    'load',
    'bad shape in the quantization state',
    () => `${name}: [${state.shape}]`,
  );
  const { blocksize } = state;
  check(
    Number.isInteger(blocksize) && blocksize >= 32 && blocksize <= 4096 && Math.log2(blocksize) % 1 === 0,
    'load',
    'blocks must hold a power of two from 32 to 4096 values',
    () => `${name}: ${blocksize}`,
  );
  check(
    state.nested_offset === undefined || Number.isFinite(state.nested_offset),
    'load',
    'nested_offset must be a number',
    () => `${name}: ${state.nested_offset}`,
  );
  check(
    state.nested_blocksize === undefined || state.nested_blocksize === nestedBlockSize,
    'load',
    'nested blocks must hold 256 scales',
    () => `${name}: ${state.nested_blocksize}`,
  );
  return {
    attrs: { quantType: state.quant_type, blockSize: blocksize, shape: state.shape },
    offset: state.nested_offset,
    dtype,
  };
}
