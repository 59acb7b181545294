/** References (f64 loops) and conformance cases of the ops, for test suites. */
export * from './generated/testing.ts';
