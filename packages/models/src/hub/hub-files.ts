import { downloadFile } from '@huggingface/hub';
import { type ByteSource, blobSource } from '@lowrank/formats';
import type { ModelFiles } from '../files.ts';
import { type HubAccess, hubCall, repositoryOf } from './hub-call.ts';

export interface HubOptions {
  /** A branch, a tag or a commit; `main` by default. */
  readonly revision?: string;
  /** Access token (`hf_…`) for private and gated repositories. */
  readonly token?: string;
  /** The hub's address; `https://huggingface.co` by default. */
  readonly endpoint?: string;
  /** The GGUF file to open, for repositories of GGUF files. */
  readonly gguf?: string;
  /** The `fetch` to use: a proxy, a test. */
  readonly fetch?: typeof globalThis.fetch;
}

/**
 * A model of the hub, in a browser or anywhere: files are read by ranges while they are needed, so weights go from the network to the
 * device. Throws a LowrankError for what the hub refuses, when a file is opened.
 */
export function hubFiles(id: string, options: HubOptions = {}): ModelFiles {
  const access: HubAccess = { repository: repositoryOf(id), revision: options.revision ?? 'main', options };
  return {
    name: id,
    gguf: options.gguf,
    open: (path) =>
      hubCall(access, path, async (parameters): Promise<ByteSource | undefined> => {
        const blob = await downloadFile({ ...parameters, path });
        if (!blob) return undefined;
        const source = blobSource(blob, `${id}/${path}`);
        // A range of no bytes cannot be asked for.
        return {
          ...source,
          read: async (offset, length) => (length === 0 ? new Uint8Array(0) : source.read(offset, length)),
        };
      }),
  };
}
