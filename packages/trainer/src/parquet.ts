/** Parquet records, through hyparquet. */
import { LowrankError } from '@lowrank/tensor';
import { type AsyncBuffer, parquetMetadataAsync, parquetReadObjects } from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import { asRecord, type DataInput, inputName, place, type ReadOptions, type SourceRecord } from './data/input.ts';

/** What can be read at any place; a stream cannot. */
export type ParquetInput = Extract<DataInput, Uint8Array | Blob | { size: number }>;

function bufferOf(input: ParquetInput): AsyncBuffer {
  const exact = (bytes: Uint8Array) => bytes.slice().buffer as ArrayBuffer;
  if (input instanceof Uint8Array)
    return { byteLength: input.byteLength, slice: (from, to) => exact(input.subarray(from, to)) };
  if (input instanceof Blob)
    return { byteLength: input.size, slice: (from, to) => input.slice(from, to).arrayBuffer() };
  return {
    byteLength: input.size,
    slice: async (from, to = input.size) => exact(await input.read(from, to - from)),
  };
}

/** Integers of 64 bits as numbers where those are exact, everywhere in a value. */
function plain(value: unknown): unknown {
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : value;
  if (Array.isArray(value)) return value.map(plain);
  if (value === null || typeof value !== 'object' || value instanceof Date || ArrayBuffer.isView(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, plain(v)]));
}

/** Records of a Parquet file, read one row group at a time. Every common compression is understood. */
export async function* readParquet(input: ParquetInput, options: ReadOptions = {}): AsyncGenerator<SourceRecord> {
  const name = inputName(input, options);
  const file = bufferOf(input);
  const broken = (cause: unknown) =>
    new LowrankError('data', 'broken Parquet file', [name, (cause as Error).message].filter(Boolean).join(': '), '', {
      cause,
    });
  const metadata = await parquetMetadataAsync(file).catch((cause: unknown) => {
    throw broken(cause);
  });
  let at = 0;
  for (const group of metadata.row_groups) {
    const end = at + Number(group.num_rows);
    const rows = await parquetReadObjects({ file, metadata, compressors, rowStart: at, rowEnd: end }).catch(
      (cause: unknown) => {
        throw broken(cause);
      },
    );
    for (const row of rows) yield asRecord(plain(row), place('record', ++at, name));
  }
}
