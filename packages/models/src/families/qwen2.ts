import { type ConfigReader, type Family, readDecoder } from '../config.ts';

/** Qwen 2 and 3 slide on the layers that `layer_types` says, or on those from `max_window_layers` on, where `use_sliding_window` is set. */
export function qwenWindow(json: ConfigReader): { slidingWindow?: (layer: number) => number | undefined } {
  if (!json.boolean('use_sliding_window', false) || !json.has('sliding_window')) return {};
  const window = json.integer('sliding_window');
  const types = json.strings('layer_types');
  const from = json.has('max_window_layers') ? json.number('max_window_layers') : 28;
  return {
    slidingWindow: (layer) =>
      (types.length ? types[layer] === 'sliding_attention' : layer >= from) ? window : undefined,
  };
}

/** Qwen 2 and 2.5: biases on q, k and v. */
export const qwen2: Family = {
  modelType: 'qwen2',
  ggufArchitecture: 'qwen2',
  readConfig: (json) => readDecoder(json, { qkvBias: true, ...qwenWindow(json) }),
};
