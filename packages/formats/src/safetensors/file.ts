import { FormatError } from '../error.ts';
import type { ByteSource } from '../source.ts';
import { closeOnError } from '../source.ts';
import { TensorFile } from '../tensor-file.ts';
import { dtypeBytes } from './dtype.ts';
import type { SafetensorsHeader, SafetensorsTensor } from './header.ts';
import { maxHeaderBytes, parseHeader } from './header.ts';

/** An open safetensors file: `tensors`, `metadata`, `read`, `stream`. Made by `openSafetensors`. */
export class SafetensorsFile extends TensorFile<SafetensorsTensor> {
  /** `__metadata__` of the header; an object without a prototype. */
  readonly metadata: Readonly<Record<string, string>>;

  constructor(source: ByteSource, header: SafetensorsHeader) {
    const size = (tensor: SafetensorsTensor) => dtypeBytes(tensor.dtype);
    super(source, header.tensors, { format: 'safetensors', unit: size, alignment: size });
    this.metadata = header.metadata;
  }
}

/**
 * Reads and checks the header of a safetensors file; no data is read. The file owns `source`: closing it, or an error
 * here, closes the source.
 * Throws `FormatError` for a header that is not exactly right (see `parseHeader`), with nothing allocated beyond the header's true size.
 */
export async function openSafetensors(source: ByteSource): Promise<SafetensorsFile> {
  return closeOnError(source, async () => new SafetensorsFile(source, await readHeader(source)));
}

async function readHeader(source: ByteSource): Promise<SafetensorsHeader> {
  const { name: file, size } = source;
  if (size < 8) {
    throw new FormatError('safetensors', 'a file must start with 8 bytes of header length', {
      file,
      offset: 0,
      facts: `it has ${size} bytes`,
      hint: 'The file is empty or cut short; copy or download it again.',
    });
  }
  const start = await source.read(0, 8);
  const length = new DataView(start.buffer, start.byteOffset, 8).getBigUint64(0, true);
  if (length > BigInt(size - 8) || length > BigInt(maxHeaderBytes)) {
    throw new FormatError('safetensors', 'the header must lie inside the file and be at most 100 MB', {
      file,
      offset: 0,
      facts: `its length is given as ${length} bytes, the file has ${size - 8} after it`,
      hint: 'The file is cut short, or is not a safetensors file.',
    });
  }
  const json = await source.read(8, Number(length));
  return parseHeader(json, file, size);
}
