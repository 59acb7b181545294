/** Merging adapters into their base, and saving models as Hugging Face folders. */
export { type MergedWeight, type MergeOptions, type MergeReport, mergeAdapter } from './merge.ts';
export { type SaveModelOptions, type StoredTensor, saveModel } from './save.ts';
