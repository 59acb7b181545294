/** Models of the Hugging Face hub, read over the network by ranges. Nothing is stored: see `@lowrank/models/node/hub` for the cache. */
export { hubFiles, type HubOptions } from './hub/hub-files.ts';
