/** The conformance suite that every backend calls, and a slow backend that is right by definition. */
export { type BackendUnderTest, describeBackend } from './describe-backend.ts';
export { referenceBackend } from './reference-backend.ts';
export type { Skip } from './skips.ts';
