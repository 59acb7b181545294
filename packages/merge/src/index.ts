/** Merging adapters into their base, and saving models as Hugging Face folders. */
export { mergeAdapter, type MergedWeight, type MergeOptions, type MergeReport } from './merge.ts';
export { saveModel, type SaveModelOptions, type StoredTensor } from './save.ts';
