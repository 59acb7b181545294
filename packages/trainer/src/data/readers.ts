import { LowrankError } from '@lowrank/tensor';
import {
  asRecord,
  type DataInput,
  inputName,
  numberedLines,
  place,
  type ReadOptions,
  type SourceRecord,
  wholeText,
} from './input.ts';

/** Records of a JSONL stream, one object a line; empty lines are skipped. A broken line is an error with its number. */
export async function* readJsonl(input: DataInput, options: ReadOptions = {}): AsyncGenerator<SourceRecord> {
  const name = inputName(input, options);
  for await (const { text, number } of numberedLines(input, name)) {
    if (!text.trim()) continue;
    const where = place('line', number, name);
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch (cause) {
      const hint = /^\s*\[/.test(text)
        ? 'It looks like one JSON array: read it as JSON'
        : 'Each line must be one whole JSON object';
      throw new LowrankError('data', 'line is not JSON', `${where}: ${(cause as Error).message}`, hint, { cause });
    }
    yield asRecord(value, where);
  }
}

/** Records of a JSON array of objects. */
export async function* readJson(input: DataInput, options: ReadOptions = {}): AsyncGenerator<SourceRecord> {
  const name = inputName(input, options);
  const text = await wholeText(input, name);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    const hint = /^\s*\{/.test(text) ? 'One object a line is JSONL: name the file .jsonl' : '';
    const facts = [name, (cause as Error).message].filter(Boolean).join(': ');
    throw new LowrankError('data', 'not JSON', facts, hint, { cause });
  }
  if (!Array.isArray(value)) {
    const keys =
      value !== null && typeof value === 'object' ? `an object with ${Object.keys(value).join(', ')}` : typeof value;
    throw new LowrankError('data', 'JSON data must be an array of objects', [name, keys].filter(Boolean).join(': '));
  }
  for (const [i, record] of value.entries()) yield asRecord(record, place('record', i + 1, name));
}

/** Records of an array in memory. */
export function* readArray(records: Iterable<object>, options: ReadOptions = {}): Generator<SourceRecord> {
  let number = 0;
  for (const record of records) yield asRecord(record, place('record', ++number, options.name ?? ''));
}
