/** Contracts of every op, the Backend contract, and what all of them share. */

export * from './binary/table.ts';
export * from './common/backend.ts';
export * from './common/codebooks.ts';
export * from './common/collectives.ts';
export * from './common/contract.ts';
export * from './common/dtype.ts';
export * from './common/error.ts';
export * from './common/half.ts';
export * from './common/names.ts';
export * from './common/philox.ts';
export * from './common/quant.ts';
export * from './common/view.ts';
export * from './generated/ops.ts';
export * from './unary/table.ts';
