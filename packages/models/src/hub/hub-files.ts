import { httpSource } from '@lowrank/formats';
import type { LowrankError } from '@lowrank/tensor';
import type { ModelFiles } from '../files.ts';
import { checkAccess, type HubOptions, refusal, unreached } from './access.ts';

/**
 * A model of the hub, in a browser or anywhere: files are read by ranges while they are needed, so weights go from the network to the
 * device and nothing is stored. Throws a LowrankError for what the hub refuses, when a file is opened.
 */
export function hubFiles(id: string, options: HubOptions = {}): ModelFiles {
  const repository = checkAccess(id, options);
  const { revision = 'main', token, endpoint = 'https://huggingface.co', fetch = globalThis.fetch } = options;
  const base = `${endpoint.replace(/\/+$/, '')}/${repository}/resolve/${encodeURIComponent(revision)}`;
  return {
    name: id,
    gguf: options.gguf,
    open: async (path) => {
      const what = `${repository}/${path} at ${revision}`;
      let absent = false;
      let refused: LowrankError | undefined;
      const watched: typeof globalThis.fetch = async (input, init) => {
        const response = await fetch(input, init);
        absent = response.status === 404 && response.headers.get('x-error-code') === 'EntryNotFound';
        if (response.status >= 400 && response.status !== 416)
          refused = refusal(response.status, what, token !== undefined);
        return response;
      };
      try {
        return await httpSource(`${base}/${path.split('/').map(encodeURIComponent).join('/')}`, {
          name: `${id}/${path}`,
          fetch: watched,
          ...(token === undefined ? {} : { headers: { Authorization: `Bearer ${token}` } }),
        });
      } catch (error) {
        if (absent) return undefined;
        throw refused ?? unreached(what, error);
      }
    },
  };
}
