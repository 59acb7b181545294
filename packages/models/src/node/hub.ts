/** Models of the Hugging Face hub, kept in the cache on disk that Python's clients use too. For Node. */
export { type CachedHubOptions, cachedHubFiles } from './cached-hub-files.ts';
