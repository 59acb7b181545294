/** Models of the Hugging Face hub, read over the network by ranges. Nothing is stored: see `@lowrank/models/node/hub` for the cache. */
export type { HubOptions } from './hub/access.ts';
export { hubFiles } from './hub/hub-files.ts';
