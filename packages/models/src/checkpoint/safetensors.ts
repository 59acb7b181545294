import { type Checkpoint, openCheckpoint, type SafetensorsDtype } from '@lowrank/formats';
import { type FloatDType, LowrankError } from '@lowrank/tensor';
import type { ModelFiles } from '../files.ts';
import type { BlockwiseTensor, StoredWeights } from './stored.ts';

const floats: Partial<Record<SafetensorsDtype, FloatDType>> = { F32: 'f32', F16: 'f16', BF16: 'bf16' };

/** The weights of a Hugging Face folder: one safetensors file, or shards and their index. */
export async function safetensorsWeights(files: ModelFiles): Promise<StoredWeights> {
  const checkpoint = await openCheckpoint((fileName) => files.open(fileName));
  const prefix = missingPrefix(checkpoint);
  const inFile = (name: string) => (prefix && name.startsWith(prefix) ? name.slice(prefix.length) : name);
  return {
    name: files.name,
    names: () =>
      [...checkpoint.files.keys()].map((name) => (prefix && !name.startsWith('lm_head.') ? prefix + name : name)),
    totalBytes: async () => {
      let total = 0;
      for (const place of (await checkpoint.tensors()).values()) total += place.byteLength;
      return total;
    },
    has: (name) => checkpoint.has(inFile(name)),
    info: async (name) => {
      const { shape, dtype, byteLength } = await checkpoint.tensor(inFile(name));
      const float = floats[dtype];
      if (!float)
        throw new LowrankError(
          'load',
          'the tensor has no float dtype',
          `${name} of ${files.name} is ${dtype} [${shape}]`,
          'Readable are F32, F16, BF16, and 4-bit weights of bitsandbytes',
        );
      return { shape, dtype: float, byteLength };
    },
    stream: (name) => checkpoint.lend(inFile(name)),
    raw: async (name) => {
      const full = inFile(name);
      const { dtype, shape } = await checkpoint.tensor(full);
      return { dtype: dtype as BlockwiseTensor['dtype'], shape, data: await checkpoint.read(full) };
    },
    close: () => checkpoint.close(),
  };
}

/** `model.` where a checkpoint was saved from the decoder alone, whose names lack it. */
function missingPrefix(checkpoint: Checkpoint): string {
  const table = 'embed_tokens.weight';
  return checkpoint.has(table) && !checkpoint.has(`model.${table}`) ? 'model.' : '';
}
