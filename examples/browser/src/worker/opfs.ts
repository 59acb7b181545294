/**
 * Files in the origin private file system, for workers: synchronous handles exist in every browser that has WebAssembly SIMD, writable
 * streams do not.
 */
import { LowrankError } from '@lowrank/tensor';

/** The part of a synchronous handle that is used here; TypeScript's worker library has it, its page library does not. */
interface SyncHandle {
  write(data: Uint8Array, options: { at: number }): number;
  truncate(size: number): void;
  flush(): void;
  close(): void;
}
type SyncFile = FileSystemFileHandle & { createSyncAccessHandle(): Promise<SyncHandle> };
type Folder = FileSystemDirectoryHandle & { keys(): AsyncIterable<string> };

/** A folder of the page's private storage. Paths are plain names; folders are made when something is written to them. */
export class PrivateFolder {
  readonly #path: readonly string[];

  constructor(...path: string[]) {
    this.#path = path;
  }

  in(...path: string[]): PrivateFolder {
    return new PrivateFolder(...this.#path, ...path);
  }

  async #open(create: boolean): Promise<Folder | undefined> {
    let at = await navigator.storage.getDirectory();
    for (const name of this.#path) {
      try {
        at = await at.getDirectoryHandle(name, { create });
      } catch (error) {
        if (!create && (error as DOMException).name === 'NotFoundError') return undefined;
        throw error;
      }
    }
    return at as Folder;
  }

  async names(): Promise<string[]> {
    const out: string[] = [];
    const folder = await this.#open(false);
    if (folder) for await (const name of folder.keys()) out.push(name);
    return out;
  }

  /** The file, or undefined where there is none. */
  async file(name: string): Promise<File | undefined> {
    try {
      return await (await (await this.#open(false))?.getFileHandle(name))?.getFile();
    } catch (error) {
      if ((error as DOMException).name === 'NotFoundError') return undefined;
      throw error;
    }
  }

  async json<T>(name: string): Promise<T | undefined> {
    const file = await this.file(name);
    if (!file) return undefined;
    try {
      return JSON.parse(await file.text()) as T;
    } catch {
      return undefined; // cut off while it was written: as good as not there
    }
  }

  async remove(name: string): Promise<void> {
    try {
      await (await this.#open(false))?.removeEntry(name, { recursive: true });
    } catch (error) {
      if ((error as DOMException).name !== 'NotFoundError') throw error;
    }
  }

  /** A file to write front to back; what was there under the name is gone. */
  async create(name: string): Promise<PrivateFile> {
    const handle = await (await this.#open(true))!.getFileHandle(name, { create: true });
    const sync = await (handle as SyncFile).createSyncAccessHandle();
    sync.truncate(0);
    return new PrivateFile(sync, [...this.#path, name].join('/'));
  }

  async write(name: string, data: Uint8Array | string): Promise<void> {
    const file = await this.create(name);
    try {
      file.write(typeof data === 'string' ? new TextEncoder().encode(data) : data);
    } finally {
      file.close();
    }
  }
}

/** An open file: a sink for writers of every kind. */
export class PrivateFile {
  readonly #handle: SyncHandle;
  readonly #name: string;
  #at = 0;

  constructor(handle: SyncHandle, name: string) {
    this.#handle = handle;
    this.#name = name;
  }

  write(bytes: Uint8Array): void {
    let written = 0;
    try {
      written = this.#handle.write(bytes, { at: this.#at });
    } catch (cause) {
      throw this.#full(cause);
    }
    if (written !== bytes.byteLength) throw this.#full();
    this.#at += written;
  }

  #full(cause?: unknown): LowrankError {
    const why = cause instanceof Error ? `: ${cause.message}` : '';
    return new LowrankError(
      'save',
      'the private storage of this page is full',
      `${this.#name}${why}`,
      'Free some disk space; what was saved before is whole',
      { cause },
    );
  }

  /** Everything is on the disk when this returns. */
  close(): void {
    this.#handle.flush();
    this.#handle.close();
  }
}
