import { type Family, readDecoder } from '../config.ts';

/** Llama 2 and 3, SmolLM2, and everything else that calls itself `llama`. */
export const llama: Family = {
  modelType: 'llama',
  ggufArchitecture: 'llama',
  readConfig: (json) => {
    const bias = json.boolean('attention_bias', false);
    return readDecoder(json, { qkvBias: bias, outputBias: bias, mlpBias: json.boolean('mlp_bias', false) });
  },
};
