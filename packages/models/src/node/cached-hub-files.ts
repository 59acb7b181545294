import { createWriteStream } from 'node:fs';
import { copyFile, mkdir, open, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { ReadableStream as NodeStream } from 'node:stream/web';
import {
  downloadFile,
  type FileDownloadInfoOutput,
  fileDownloadInfo,
  getHFHubCachePath,
  modelInfo,
} from '@huggingface/hub';
import type { ByteSource } from '@lowrank/formats';
import { fileSource } from '@lowrank/formats/node';
import { check, LowrankError } from '@lowrank/tensor';
import type { ModelFiles } from '../files.ts';
import { checkAccess, type HubOptions, isUnreached } from '../hub/access.ts';
import { type HubAccess, hubCall } from './hub-client.ts';
import { claimPart } from './part-file.ts';

export interface CachedHubOptions extends HubOptions {
  /** Where files are kept; by default where Python's clients keep them (`HF_HUB_CACHE`, `HF_HOME`, `~/.cache/huggingface/hub`). */
  readonly cacheDir?: string;
  /** Ask the network for nothing. */
  readonly offline?: boolean;
  /** Times a download that breaks off is taken up again, where it stopped; 3 by default. */
  readonly retries?: number;
  readonly onProgress?: (progress: {
    readonly file: string;
    readonly bytes: number;
    readonly totalBytes: number;
  }) => void;
}

/**
 * A model of the hub on disk: files are downloaded when first opened, into `models--owner--name/{blobs, snapshots, refs}`. The revision is
 * fixed here, once; where the hub cannot be reached, the commit that was used last serves, with the files that are there.
 */
export async function cachedHubFiles(id: string, options: CachedHubOptions = {}): Promise<ModelFiles> {
  const repository = checkAccess(id, options);
  const folder = join(options.cacheDir ?? getHFHubCachePath(), `models--${repository.replaceAll('/', '--')}`);
  const revision = await commitOf(folder, { repository, revision: options.revision ?? 'main', options }, options);
  const cache = new Cache(folder, { repository, revision, options }, options);
  return { name: id, gguf: options.gguf, open: (path) => cache.open(path) };
}

const isCommit = (revision: string) => /^[0-9a-f]{40}$/.test(revision);

/** The commit of a branch or tag: the hub's answer, or the one noted when the hub was last asked. */
async function commitOf(folder: string, access: HubAccess, options: CachedHubOptions): Promise<string> {
  const { revision } = access;
  if (isCommit(revision)) return revision;
  check(!/(^|[\\/])\.\.?([\\/]|$)/.test(revision), 'hub', 'not a revision', revision);
  const note = join(folder, 'refs', revision);
  const noted = (await readFile(note, 'utf8').catch(() => undefined))?.trim();
  if (options.offline) {
    check(
      noted,
      'hub',
      'the model is not in the cache',
      `${access.repository} at ${revision}, in ${folder}`,
      'Go online once to download it',
    );
    return noted;
  }
  try {
    const { sha } = await hubCall(access, undefined, ({ repo, ...rest }) =>
      modelInfo({ ...rest, name: repo, additionalFields: ['sha'] }),
    );
    await mkdir(dirname(note), { recursive: true });
    await writeFile(note, sha);
    return sha;
  } catch (error) {
    if (noted && isUnreached(error)) return noted;
    throw error;
  }
}

/** One commit of a repository in the cache. */
class Cache {
  readonly #folder: string;
  readonly #access: HubAccess;
  readonly #options: CachedHubOptions;
  readonly #downloads = new Map<string, Promise<string | undefined>>();

  constructor(folder: string, access: HubAccess, options: CachedHubOptions) {
    this.#folder = folder;
    this.#access = access;
    this.#options = options;
  }

  async open(path: string): Promise<ByteSource | undefined> {
    check(
      !path.split(/[\\/]/).includes('..') && !/^([\\/]|[a-zA-Z]:)/.test(path),
      'hub',
      'not the name of a file',
      path,
    );
    let download = this.#downloads.get(path);
    if (!download) {
      download = this.#find(path);
      this.#downloads.set(path, download);
      // A download that failed is tried again the next time.
      download.catch(() => this.#downloads.delete(path));
    }
    const found = await download;
    return found === undefined ? undefined : fileSource(found);
  }

  /** The file on disk, downloaded if need be; undefined where the repository has none. */
  async #find(path: string): Promise<string | undefined> {
    const place = join(this.#folder, 'snapshots', this.#access.revision, path);
    if (await exists(place)) return place;
    const absent = join(this.#folder, '.no_exist', this.#access.revision, path);
    if (this.#options.offline || (await exists(absent))) return undefined;
    const info = await hubCall(this.#access, path, (parameters) => fileDownloadInfo({ ...parameters, path }));
    if (!info) {
      await mkdir(dirname(absent), { recursive: true });
      await writeFile(absent, '');
      return undefined;
    }
    const blob = join(this.#folder, 'blobs', blobName(info.etag));
    if (!(await exists(blob))) await this.#download(path, info, blob);
    await link(blob, place);
    return place;
  }

  /** Downloads to `<blob>.incomplete`, going on where an earlier try stopped, and renames it once every byte is there. */
  async #download(path: string, info: FileDownloadInfoOutput, blob: string): Promise<void> {
    await mkdir(dirname(blob), { recursive: true });
    await using claim = await claimPart(blob);
    const part = claim.path;
    for (let left = this.#options.retries ?? 3; ; left--) {
      try {
        await this.#append(path, info, part);
        break;
      } catch (error) {
        if (left <= 0 || !isUnreached(error)) throw error;
      }
    }
    const { size } = await stat(part);
    if (size !== info.size) {
      await rm(part, { force: true });
      throw new LowrankError(
        'hub',
        'the file has another size than the hub says',
        `${this.#access.repository}/${path}: ${size} of ${info.size} bytes`,
        'Try again',
      );
    }
    const handle = await open(part, 'r');
    await handle.sync().finally(() => handle.close());
    await rename(part, blob);
  }

  async #append(path: string, info: FileDownloadInfoOutput, part: string): Promise<void> {
    const { onProgress } = this.#options;
    let bytes = (await stat(part).catch(() => undefined))?.size ?? 0;
    if (bytes >= info.size && info.size > 0) return;
    await hubCall(this.#access, path, async (parameters) => {
      const whole = await downloadFile({ ...parameters, path, downloadInfo: info });
      const stream = (bytes === 0 ? whole! : whole!.slice(bytes)).stream();
      const counted = async function* (chunks: AsyncIterable<Uint8Array>) {
        for await (const chunk of chunks) {
          bytes += chunk.byteLength;
          yield chunk;
          onProgress?.({ file: path, bytes, totalBytes: info.size });
        }
      };
      await pipeline(Readable.fromWeb(stream as NodeStream), counted, createWriteStream(part, { flags: 'a' }));
      if (bytes < info.size) throw new Error(`the connection ended after ${bytes} of ${info.size} bytes`);
    });
  }
}

/** The name of a blob in the cache, as Python's client makes it. */
function blobName(etag: string): string {
  const name = etag.replace(/^W\//, '').replaceAll('"', '');
  check(/^[\w.-]+$/.test(name) && !name.startsWith('.'), 'hub', 'the hub gave an ETag that is no file name', etag);
  return name;
}

/** A link from a snapshot to a blob; a copy where the system has no links. */
async function link(blob: string, place: string): Promise<void> {
  await mkdir(dirname(place), { recursive: true });
  await symlink(relative(dirname(place), blob), place).catch(async (error: NodeJS.ErrnoException) => {
    if (error.code === 'EEXIST') return;
    await copyFile(blob, place);
  });
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
