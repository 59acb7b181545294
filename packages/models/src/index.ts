/** Decoder-only language models: families, checkpoint loading, tokenizers and chat templates, generation. */
export { ggufConfigJson } from './checkpoint/gguf-config.ts';
export type { BlockwiseTensor } from './checkpoint/stored.ts';
export { ConfigReader, type DecoderConfig, type Family, type RopeConfig, readDecoder, readRope } from './config.ts';
export {
  type Block,
  CausalLm,
  type HiddenOptions,
  type Positions,
  type Tables,
  type WeightSource,
} from './decoder.ts';
export { families, readConfig } from './families/index.ts';
export { blobFiles, ggufFiles, type ModelFiles, readJson, readText } from './files.ts';
export {
  type FinishReason,
  type GeneratedToken,
  type GenerateOptions,
  generate,
  generateText,
  type Prompt,
} from './generate/generate.ts';
export { Sampler, type SamplingOptions } from './generate/sampler.ts';
export { KvCache } from './kv-cache.ts';
export { type LoadOptions, type LoadProgress, loadConfig, loadModel, type ModelConfig } from './load.ts';
export { type ChatMessage, type ChatOptions, ChatTemplate } from './tokenizer/chat-template.ts';
export { type GgufTokenizerOptions, ggufTokenizer, type TokenizerFiles } from './tokenizer/gguf-tokenizer.ts';
export { loadTokenizer } from './tokenizer/load-tokenizer.ts';
export { TokenStream } from './tokenizer/token-stream.ts';
export { type DecodeOptions, type EncodeOptions, Tokenizer, type TokenizerParts } from './tokenizer/tokenizer.ts';
