/** References (f64 loops) and conformance cases of the ops, for test suites. */

export {
  type Case,
  type CustomLayout,
  type Layout,
  layOut,
  makeInputs,
  type Operand,
  type Tolerance,
  unitRoundoff,
} from './common/cases.ts';
export { type RefArray, type Reference, zeros } from './common/reference.ts';
export * from './generated/testing.ts';
