/** Decoder-only language models: families, checkpoint loading, tokenizers and chat templates, generation. */
export { ConfigReader, readDecoder, readRope, type DecoderConfig, type Family, type RopeConfig } from './config.ts';
export { CausalLm, type HiddenOptions, type Positions, type WeightSource } from './decoder.ts';
export { families, readConfig } from './families/index.ts';
export { KvCache } from './kv-cache.ts';
