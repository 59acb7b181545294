import { type Family, readDecoder } from '../config.ts';

/** Mistral: Llama with a sliding window on every layer, where the configuration has one. */
export const mistral: Family = {
  modelType: 'mistral',
  ggufArchitecture: 'llama',
  readConfig: (json) => {
    const window = json.has('sliding_window') ? json.integer('sliding_window') : undefined;
    return readDecoder(json, window ? { slidingWindow: () => window } : {});
  },
};
