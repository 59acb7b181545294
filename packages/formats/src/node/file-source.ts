import type { FileHandle } from 'node:fs/promises';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { FormatError } from '../error.ts';
import type { FileResolver } from '../safetensors/checkpoint.ts';
import type { ByteSource } from '../source.ts';
import { checkRange } from '../source.ts';

/** Node reads at most 2 GiB a call. */
const maxReadBytes = 1 << 30;

/** A source over a file. It holds a file handle: call `close`. Throws `FormatError` for a file that is missing or no regular file. */
export async function fileSource(path: string): Promise<ByteSource & { close(): Promise<void> }> {
  let handle: FileHandle;
  try {
    handle = await open(path, 'r');
  } catch (cause) {
    throw new FormatError('file', 'must be there and readable', { file: path, facts: (cause as Error).message, cause });
  }
  const stat = await handle.stat();
  if (!stat.isFile()) {
    await handle.close();
    throw new FormatError('file', 'must be a regular file', {
      file: path,
      facts: stat.isDirectory() ? 'it is a folder' : 'it is a device, a pipe or a socket',
    });
  }
  const source = {
    name: path,
    size: stat.size,
    async read(offset: number, length: number): Promise<Uint8Array> {
      checkRange(source, offset, length);
      const bytes = new Uint8Array(length);
      await source.readInto(offset, bytes);
      return bytes;
    },
    async readInto(offset: number, target: Uint8Array): Promise<void> {
      const length = target.byteLength;
      checkRange(source, offset, length);
      for (let done = 0; done < length; ) {
        const most = Math.min(length - done, maxReadBytes);
        const { bytesRead } = await readSome(handle, target, done, most, offset + done, path);
        if (bytesRead === 0) {
          throw new FormatError('file', 'must not shrink while it is read', {
            file: path,
            offset: offset + done,
            facts: `it had ${stat.size} bytes when opened`,
            hint: 'Another program changed it; open it again.',
          });
        }
        done += bytesRead;
      }
    },
    async close(): Promise<void> {
      await handle.close();
    },
  };
  return source;
}

async function readSome(
  handle: FileHandle,
  bytes: Uint8Array,
  done: number,
  length: number,
  position: number,
  path: string,
): Promise<{ bytesRead: number }> {
  try {
    return await handle.read(bytes, done, length, position);
  } catch (cause) {
    throw new FormatError('file', 'must be readable', {
      file: path,
      offset: position,
      facts: (cause as Error).message,
      cause,
    });
  }
}

/** Finds the files of a checkpoint in a folder. */
export function folderResolver(folder: string): FileResolver {
  return async (fileName) => {
    try {
      return await fileSource(join(folder, fileName));
    } catch (error) {
      const code = error instanceof FormatError ? (error.cause as NodeJS.ErrnoException | undefined)?.code : undefined;
      if (code === 'ENOENT') return undefined;
      throw error;
    }
  };
}
