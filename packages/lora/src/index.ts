/** LoRA adapters on any model built of @lowrank/tensor's layers, in PEFT's terms and files. */
export {
  fromPeftJson,
  type InitLoraWeights,
  type LoraBias,
  type LoraConfig,
  resolveConfig,
  toPeftJson,
} from './config.ts';
export type { TrainedCopy } from './copies.ts';
export type { Counts } from './count.ts';
export { LoraEmbeddingLayer, LoraLinearLayer, type LoraPair, type LoraState } from './layer.ts';
export { type Candidate, layerOf, matchTargets, rankAndScale } from './match.ts';
export { type Adapter, LoraModel } from './model.ts';
export { type AdapterFiles, adapterFiles, loadAdapter, saveAdapter } from './peft-files.ts';
export { peftTensors } from './peft-keys.ts';
export type { Drivable, Trainee } from './trainee.ts';
