import { FormatError, quote } from '../error.ts';
import { parseJson } from '../json.ts';
import type { ByteSource } from '../source.ts';

/** Longest index read, in bytes (the largest seen in use is below 20 MB). */
const maxIndexBytes = 100_000_000;

/** Reads `model.safetensors.index.json`: tensor name → file name, in the file's order. Throws `FormatError` for anything else. */
export async function parseShardIndex(source: ByteSource): Promise<Map<string, string>> {
  const format = 'checkpoint index';
  const { name: file, size } = source;
  if (size > maxIndexBytes) {
    throw new FormatError(format, 'an index must be at most 100 MB', {
      file,
      offset: 0,
      facts: `it has ${size} bytes`,
    });
  }
  const bytes = await source.read(0, size);
  const root = parseJson(bytes, { format, file, base: 0, maxDepth: 32, maxValues: 4_000_000, integersOnly: false });
  const map = root.value instanceof Map ? root.value.get('weight_map') : undefined;
  if (!(map?.value instanceof Map)) {
    throw new FormatError(format, 'an index must have a weight_map', {
      file,
      offset: map?.at ?? root.at,
      facts: map === undefined ? 'there is none' : 'it is not an object',
    });
  }
  const files = new Map<string, string>();
  for (const [tensor, { at, value }] of map.value) {
    if (typeof value !== 'string' || !isPlainPath(value)) {
      throw new FormatError(format, 'weight_map must give file names inside the folder', {
        file,
        offset: at,
        facts: `${quote(tensor)} maps to ${typeof value === 'string' ? quote(value) : 'something else'}`,
      });
    }
    files.set(tensor, value);
  }
  return files;
}

/** A relative path that cannot leave its folder, on any system, and is no URL. */
function isPlainPath(path: string): boolean {
  if (path.length === 0 || path.length > 1024 || /[\\:?#\p{Cc}]/u.test(path)) return false;
  return path.split('/').every((part) => part !== '' && part !== '.' && part !== '..');
}
