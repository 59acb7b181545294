import { Embedding, type Tensor } from '@lowrank/tensor';
import type { Adapter, LoraModel } from './model.ts';

const prefix = 'base_model.model.';

/** The tensors of an adapter by the keys of `adapter_model.safetensors`. */
export function peftTensors(lora: LoraModel, adapter: Adapter): Map<string, Tensor> {
  const out = new Map<string, Tensor>();
  for (const [path, { a, b }] of adapter.pairs)
    if (lora.model.at(path) instanceof Embedding)
      out.set(`${prefix}${path}.lora_embedding_A`, a).set(`${prefix}${path}.lora_embedding_B`, b);
    else out.set(`${prefix}${path}.lora_A.weight`, a).set(`${prefix}${path}.lora_B.weight`, b);
  for (const [path, { kind, tensor }] of adapter.copies) {
    const module = path.slice(0, path.lastIndexOf('.'));
    out.set(`${prefix}${kind === 'bias' && adapter.pairs.has(module) ? `${module}.base_layer.bias` : path}`, tensor);
  }
  return out;
}

/**
 * Keys that PEFT writes and that say nothing new: beside an adapted embedding the table itself, which the base model has; where all biases
 * train, those of a module that is trained whole once more, and those of the base that it stands in for.
 */
export function isRedundant(key: string): boolean {
  return /\.(base_layer\.weight|(modules_to_save|original_module)\.bias)$/.test(key);
}

/** Rank of each adapted module, read from the shapes of A; a check against configurations that were edited by hand. */
export function moduleOfKey(key: string): string {
  return key
    .replace(prefix, '')
    .replace(
      /\.(lora_A\.weight|lora_B\.weight|lora_embedding_A|lora_embedding_B|base_layer\.(weight|bias)|weight|bias)$/,
      '',
    );
}
