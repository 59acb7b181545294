/** LoRA adapters on any model built of @lowrank/tensor's layers, in PEFT's terms and files. */
export { fromPeftJson, resolveConfig, toPeftJson, type InitLoraWeights, type LoraBias, type LoraConfig } from './config.ts';
export { LoraEmbeddingLayer, LoraLinearLayer, type LoraPair } from './layer.ts';
export { editDistance, layerOf, matchTargets, nearest, rankAndScale, type Candidate } from './match.ts';
export { LoraModel, type Adapter, type TrainedCopy } from './model.ts';
export { adapterFiles, loadAdapter, saveAdapter, type AdapterFiles } from './peft-files.ts';
export { peftTensors } from './peft-keys.ts';
