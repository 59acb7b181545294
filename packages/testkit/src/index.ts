/** The conformance suite that every backend calls, and a slow backend that is right by definition. */
export { type BackendUnderTest, describeBackend } from './describe-backend.ts';
export { describeTiny } from './describe-tiny.ts';
export { checkGradient, type GradientInput, type GradientOptions } from './gradient.ts';
export { referenceBackend } from './reference-backend.ts';
export type { Skip } from './skips.ts';
