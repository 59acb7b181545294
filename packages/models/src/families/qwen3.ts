import { type Family, readDecoder } from '../config.ts';
import { qwenWindow } from './qwen2.ts';

/** Qwen 3: RMS norms on the heads of q and k, no biases unless `attention_bias` says so. */
export const qwen3: Family = {
  modelType: 'qwen3',
  ggufArchitecture: 'qwen3',
  readConfig: (json) => {
    const bias = json.boolean('attention_bias', false);
    return readDecoder(json, {
      headDim: json.integer('head_dim', 128),
      qkvBias: bias,
      outputBias: bias,
      qkNorm: true,
      ...qwenWindow(json),
    });
  },
};
