import { randomBytes } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { mkdir, open, realpath, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { FormatError } from '../error.ts';
import type { FileSink } from '../sink.ts';

/** Small writes are gathered up to this many bytes. */
const bufferBytes = 1 << 20;

/**
 * Writes a file under a temporary name beside it and gives it its name only when it is complete and on the disk. Whatever
 * goes wrong before `commit` has returned (a full disk, an exception, a killed process), the old file is whole under its name; after
 * an error the temporary file is removed. Use with `await using`: what was not committed is thrown away.
 */
export class AtomicFileWriter implements FileSink {
  /** The final path, symbolic links followed. */
  readonly path: string;
  readonly #temporary: string;
  readonly #handle: FileHandle;
  readonly #buffer = new Uint8Array(bufferBytes);
  #buffered = 0;
  #bytesWritten = 0;
  #state: 'open' | 'done' = 'open';

  private constructor(path: string, temporary: string, handle: FileHandle) {
    this.path = path;
    this.#temporary = temporary;
    this.#handle = handle;
  }

  /** Starts a file. The folder must be there. Throws `FormatError` when nothing can be written there. */
  static async create(path: string): Promise<AtomicFileWriter> {
    // A symbolic link stays one: the file it points to is replaced.
    const target = await realpath(path).catch(() => path);
    const temporary = `${target}.${process.pid}-${randomBytes(4).toString('hex')}.tmp`;
    try {
      return new AtomicFileWriter(target, temporary, await open(temporary, 'wx'));
    } catch (cause) {
      throw new FormatError('file', 'the folder must be writable', {
        file: path,
        facts: (cause as Error).message,
        cause,
      });
    }
  }

  /** Bytes given to `write` so far. */
  get bytesWritten(): number {
    return this.#bytesWritten;
  }

  /** Appends `bytes`. On a failure the temporary file is removed and `FormatError` thrown. Calls must not overlap. */
  async write(bytes: Uint8Array): Promise<void> {
    this.#checkOpen('write');
    this.#bytesWritten += bytes.byteLength;
    if (this.#buffered + bytes.byteLength > bufferBytes) await this.#flush();
    if (bytes.byteLength >= bufferBytes) return this.#guard(() => this.#writeAll(bytes));
    this.#buffer.set(bytes, this.#buffered);
    this.#buffered += bytes.byteLength;
  }

  /** Flushes to the disk (fsync), renames over the final path, and makes the rename durable (fsync of the folder). */
  async commit(): Promise<void> {
    this.#checkOpen('commit');
    await this.#flush();
    await this.#guard(async () => {
      await this.#handle.sync();
      await this.#handle.close();
      await rename(this.#temporary, this.path);
    });
    this.#state = 'done';
    await syncFolder(dirname(this.path));
  }

  /** Removes the temporary file. Harmless after `commit` or a failed write. */
  async abort(): Promise<void> {
    if (this.#state === 'done') return;
    this.#state = 'done';
    await this.#handle.close().catch(() => {});
    await rm(this.#temporary, { force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.abort();
  }

  async #flush(): Promise<void> {
    const pending = this.#buffer.subarray(0, this.#buffered);
    this.#buffered = 0;
    if (pending.byteLength > 0) await this.#guard(() => this.#writeAll(pending));
  }

  async #writeAll(bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.byteLength; ) {
      const length = Math.min(bytes.byteLength - done, 1 << 30);
      done += (await this.#handle.write(bytes, done, length)).bytesWritten;
    }
  }

  /** Runs a step; when it fails, cleans up and says what became of the old file. */
  async #guard(step: () => Promise<void>): Promise<void> {
    try {
      await step();
    } catch (cause) {
      await this.abort();
      const { code, message } = cause as NodeJS.ErrnoException;
      const full = code === 'ENOSPC' || code === 'EDQUOT' || code === 'EFBIG';
      throw new FormatError('file', full ? 'the disk must have room' : 'must be writable', {
        file: this.path,
        offset: this.#bytesWritten,
        facts: `${message} after about ${this.#bytesWritten} bytes`,
        hint: `${full ? 'Free some space, or write elsewhere.' : 'Write elsewhere.'} What was at this path before is unchanged.`,
        cause,
      });
    }
  }

  #checkOpen(what: string): void {
    if (this.#state === 'open') return;
    throw new FormatError('file', `${what} needs an open writer`, {
      file: this.path,
      facts: 'it was committed or aborted',
    });
  }
}

/** Opens the files of `saveCheckpoint` in `folder`, which is made if it is not there. */
export function folderSinks(folder: string): (fileName: string) => Promise<AtomicFileWriter> {
  return async (fileName) => {
    // Looked for first: a process that is told to stop takes away what it had begun, and a `mkdir` under way would bring it back.
    if (!(await stat(folder).catch(() => undefined)))
      await mkdir(folder, { recursive: true }).catch((cause: Error) => {
        throw new FormatError('folder', 'must be there or be makeable', { file: folder, facts: cause.message, cause });
      });
    return AtomicFileWriter.create(join(folder, fileName));
  };
}

/** Where folders cannot be opened or synced (Windows, some network disks), the rename is as durable as the system makes it. */
async function syncFolder(folder: string): Promise<void> {
  if (process.platform === 'win32') return;
  try {
    await using handle = await open(folder, 'r');
    await handle.sync();
  } catch (cause) {
    const { code = '' } = cause as NodeJS.ErrnoException;
    if (!['EACCES', 'EPERM', 'EINVAL', 'ENOTSUP'].includes(code)) throw cause;
  }
}
