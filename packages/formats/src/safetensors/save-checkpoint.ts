import { FormatError } from '../error.ts';
import type { FileSink } from '../sink.ts';
import { tensorBytes } from './dtype.ts';
import type { SafetensorsTensor } from './header.ts';
import type { SafetensorsDeclaration } from './writer.ts';
import { SafetensorsWriter } from './writer.ts';

/** How to cut and name the files of a checkpoint. */
export interface SaveCheckpointOptions {
  /** Tensor bytes a file at most; a single tensor above it gets a file of its own. Default 5 GB, as Hugging Face does. */
  maxShardBytes?: number;
  /** `__metadata__` of each file; default `{ format: 'pt' }`, without which transformers refuses a file. */
  metadata?: Readonly<Record<string, string>>;
  /** File names start with it; default `model`. */
  stem?: string;
}

/** The data of a tensor: all at once or in pieces. */
export type TensorData = ArrayBufferView | AsyncIterable<ArrayBufferView> | Iterable<ArrayBufferView>;

/** What `saveCheckpoint` wrote. */
export interface SavedCheckpoint {
  /** File names, the index last where there is one. */
  files: string[];
  /** Bytes of all tensors. */
  totalBytes: number;
}

/**
 * Writes `tensors` as `model.safetensors`, or, above `maxShardBytes`, as `model-00001-of-0000N.safetensors` … and
 * `model.safetensors.index.json`. `data` is asked for one tensor at a time. All files are committed at the end, the index last, so
 * an error on the way leaves what was there before; nothing of the new files stays.
 */
export async function saveCheckpoint(
  open: (fileName: string) => Promise<FileSink>,
  tensors: Iterable<SafetensorsDeclaration>,
  data: (tensor: SafetensorsTensor) => TensorData | Promise<TensorData>,
  options: SaveCheckpointOptions = {},
): Promise<SavedCheckpoint> {
  const stem = options.stem ?? 'model';
  const metadata = options.metadata ?? { format: 'pt' };
  const shards = planShards(tensors, options.maxShardBytes ?? 5e9, stem);
  const sinks: FileSink[] = [];
  const files: string[] = [];
  const create = async (fileName: string): Promise<FileSink> => {
    const sink = await open(fileName);
    sinks.push(sink);
    files.push(fileName);
    return sink;
  };
  try {
    const weightMap: Record<string, string> = Object.create(null);
    let totalBytes = 0;
    for (const [i, shard] of shards.entries()) {
      const fileName = shardName(stem, i, shards.length);
      const writer = new SafetensorsWriter(await create(fileName), shard, metadata, fileName);
      for (const tensor of writer.tensors) {
        const pieces = await data(tensor);
        for await (const piece of ArrayBuffer.isView(pieces) ? [pieces] : pieces)
          await writer.write(tensor.name, piece);
        weightMap[tensor.name] = fileName;
        totalBytes += tensor.byteLength;
      }
      await writer.finish();
    }
    if (shards.length > 1) {
      const index = await create(`${stem}.safetensors.index.json`);
      const sorted = Object.fromEntries(
        Object.keys(weightMap)
          .sort()
          .map((name) => [name, weightMap[name]!]),
      );
      const json = JSON.stringify({ metadata: { total_size: totalBytes }, weight_map: sorted }, null, 2);
      await index.write(new TextEncoder().encode(`${json}\n`));
    }
    for (const sink of sinks) await sink.commit();
    return { files, totalBytes };
  } catch (error) {
    await Promise.allSettled(sinks.map((sink) => sink.abort()));
    throw error;
  }
}

/** Fills one shard after the other in the declared order. */
function planShards(
  tensors: Iterable<SafetensorsDeclaration>,
  maxShardBytes: number,
  stem: string,
): SafetensorsDeclaration[][] {
  if (!(maxShardBytes > 0)) {
    throw new FormatError('checkpoint', 'maxShardBytes must be positive', {
      file: stem,
      facts: `got ${maxShardBytes}`,
    });
  }
  const names = new Set<string>();
  const shards: SafetensorsDeclaration[][] = [];
  let filled = 0;
  for (const tensor of tensors) {
    if (names.has(tensor.name)) {
      const facts = `${JSON.stringify(tensor.name)} is declared twice`;
      throw new FormatError('checkpoint', 'tensor names must be unique', { file: stem, facts });
    }
    names.add(tensor.name);
    const size = tensorBytes(tensor.name, tensor.dtype, tensor.shape, { file: stem });
    const last = shards.at(-1);
    if (last === undefined || filled + size > maxShardBytes) {
      shards.push([tensor]);
      filled = size;
    } else {
      last.push(tensor);
      filled += size;
    }
  }
  return shards.length === 0 ? [[]] : shards;
}

function shardName(stem: string, index: number, count: number): string {
  if (count === 1) return `${stem}.safetensors`;
  const digits = (n: number) => String(n).padStart(5, '0');
  return `${stem}-${digits(index + 1)}-of-${digits(count)}.safetensors`;
}
