import type { FileHandle } from 'node:fs/promises';
import { bytesOf, type DType, LowrankError, sizeOf } from '@lowrank/tensor';
import type { SavedTensor } from '../checkpoint.ts';

/** dtypes as safetensors calls them: a checkpoint's tensors lie in a file that any of its readers opens. */
const names: Readonly<Record<DType, string>> = {
  f32: 'F32',
  f16: 'F16',
  bf16: 'BF16',
  i32: 'I32',
  u32: 'U32',
  u8: 'U8',
};
const dtypes = new Map(Object.entries(names).map(([dtype, name]) => [name, dtype as DType]));

interface Entry {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly data_offsets: readonly [number, number];
}

/** Writes header and tensors, one tensor in memory at a time. */
export async function writeTensors(file: FileHandle, tensors: ReadonlyMap<string, SavedTensor>): Promise<void> {
  let at = 0;
  const header: Record<string, Entry> = {};
  for (const [name, { dtype, shape }] of tensors) {
    const bytes = sizeOf(shape) * bytesOf[dtype];
    header[name] = { dtype: names[dtype], shape, data_offsets: [at, (at += bytes)] };
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  const text = new Uint8Array(Math.ceil(json.length / 8) * 8).fill(0x20);
  text.set(json);
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(text.length), true);
  await writeAll(file, length);
  await writeAll(file, text);
  for (const [name, { read }] of tensors) {
    const bytes = await read();
    const [from, to] = header[name]!.data_offsets;
    if (bytes.byteLength !== to - from)
      throw new LowrankError('checkpoint', 'a tensor gave other bytes than its shape', name);
    await writeAll(file, bytes);
  }
}

export async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.byteLength; ) at += (await file.write(bytes, at)).bytesWritten;
}

/** The tensors of a file, read when asked for through `read(offset, length)`. */
export async function readTensors(
  read: (offset: number, length: number) => Promise<Uint8Array>,
  size: number,
  where: string,
): Promise<Map<string, SavedTensor>> {
  const damaged = (facts: string) =>
    new LowrankError('resume', 'checkpoint is damaged', `${where}: ${facts}`, 'Resume from another checkpoint');
  if (size < 8) throw damaged(`${size} bytes`);
  const head = await read(0, 8);
  const length = Number(new DataView(head.buffer, head.byteOffset).getBigUint64(0, true));
  if (length > size - 8) throw damaged('its header is cut off');
  let header: Record<string, Entry>;
  try {
    header = JSON.parse(new TextDecoder().decode(await read(8, length)));
  } catch {
    throw damaged('its header is not JSON');
  }
  const out = new Map<string, SavedTensor>();
  for (const [name, entry] of Object.entries(header)) {
    const dtype = dtypes.get(entry.dtype);
    const [from, to] = entry.data_offsets;
    if (!dtype || to - from !== sizeOf(entry.shape) * bytesOf[dtype] || 8 + length + to > size)
      throw damaged(`${name} is cut off`);
    out.set(name, { dtype, shape: entry.shape, read: () => read(8 + length + from, to - from) });
  }
  return out;
}
