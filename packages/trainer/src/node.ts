/** For Node: records from files, checkpoints in folders, metrics as JSON lines. */
export { FolderCheckpoints } from './node/folder-checkpoints.ts';
export { JsonlMetrics } from './node/jsonl-metrics.ts';
export { readFileRecords } from './node/read-file.ts';
