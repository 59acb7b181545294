import { LowrankError } from '@lowrank/tensor';
import { ConfigReader, type DecoderConfig, type Family } from '../config.ts';
import { llama } from './llama.ts';
import { mistral } from './mistral.ts';
import { qwen2 } from './qwen2.ts';
import { qwen3 } from './qwen3.ts';

/** Every family. A new one is a file beside these and a row here. */
export const families: readonly Family[] = [llama, mistral, qwen2, qwen3];

/** Reads a parsed `config.json` by its `model_type`. */
export function readConfig(json: unknown): DecoderConfig {
  const reader = new ConfigReader(json);
  const type = reader.string('model_type');
  const family = families.find((f) => f.modelType === type);
  if (!family)
    throw new LowrankError(
      'config',
      'unknown model_type',
      type,
      `Known: ${families.map((f) => f.modelType).join(', ')}`,
    );
  return family.readConfig(reader);
}
