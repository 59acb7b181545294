import { createReadStream } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { basename, extname } from 'node:path';
import { LowrankError } from '@lowrank/tensor';
import type { SourceRecord } from '../data/input.ts';
import { readJson, readJsonl } from '../data/readers.ts';

const known = ['.jsonl', '.ndjson', '.json', '.csv', '.tsv', '.parquet'];

/** The records of a file, by the end of its name: JSONL (as a stream), JSON, CSV, TSV or Parquet (a row group at a time). */
export async function* readFileRecords(path: string): AsyncGenerator<SourceRecord> {
  const found = await stat(path).catch((cause: NodeJS.ErrnoException) => {
    const rule = cause.code === 'ENOENT' ? 'no such file' : 'file cannot be read';
    throw new LowrankError('data', rule, cause.code === 'ENOENT' ? path : cause.message, '', { cause });
  });
  if (!found.isFile()) throw new LowrankError('data', 'not a file', path);
  const name = basename(path);
  const extension = extname(path).toLowerCase();
  if (extension === '.jsonl' || extension === '.ndjson') yield* readJsonl(createReadStream(path), { name });
  else if (extension === '.json') yield* readJson(createReadStream(path), { name });
  else if (extension === '.csv' || extension === '.tsv') {
    const { readCsv } = await import('../csv.ts');
    yield* readCsv(createReadStream(path), { name, ...(extension === '.tsv' ? { delimiter: '\t' } : {}) });
  } else if (extension === '.parquet') {
    const { readParquet } = await import('../parquet.ts');
    await using file = await open(path, 'r');
    const read = async (offset: number, length: number) => {
      const bytes = new Uint8Array(length);
      const { bytesRead } = await file.read(bytes, 0, length, offset);
      return bytes.subarray(0, bytesRead);
    };
    yield* readParquet({ name, size: found.size, read });
  } else throw new LowrankError('data', 'unknown kind of file', path, `Known: ${known.join(', ')}`);
}
