import {
  type CaseInit,
  defineCases,
  type Layout,
  normal,
  type Operand,
  of,
  rowTolerance,
  spiked,
  t,
  type Values,
} from '../common/cases.ts';
import type { DType } from '../common/dtype.ts';
import type { QuantType } from '../common/quant.ts';
import { quantOperands } from '../common/quant-cases.ts';
import type { LinearAttrs, LoraLinear } from './contract.ts';

/** One layer of a group as the cases describe it; `r` 0: no low-rank pair. */
interface Layer {
  readonly n: number;
  readonly r?: number;
  readonly scale?: number;
  readonly bias?: boolean;
  readonly quant?: QuantType;
  readonly nested?: boolean;
  /** Of the low-rank pair; the run's dtype where absent. */
  readonly adapter?: 'f32';
}

export interface LoraSetup {
  readonly name: string;
  readonly m: number;
  readonly k: number;
  readonly layers: readonly Layer[];
  /** Of x; normal numbers where absent. */
  readonly values?: Values;
  readonly layout?: Layout;
  readonly dtypes?: readonly DType[];
}

const qkv = (n: number, nKv: number, rest: Partial<Layer>): readonly Layer[] => [
  { n, r: 8, scale: 2, ...rest },
  { n: nKv, r: 8, scale: 2, ...rest },
  { n: nKv, r: 8, scale: 2, ...rest },
];

/** Shared by forward and backward. */
export const setups: readonly LoraSetup[] = [
  ...[0, 1, 2, 31, 33, 67].map((m) => ({ name: `${m} rows`, m, k: 64, layers: [{ n: 96, r: 8, scale: 2 }] })),
  { name: 'odd sizes', m: 7, k: 67, layers: [{ n: 31, r: 3, scale: 0.5 }] },
  { name: 'rank 1', m: 5, k: 33, layers: [{ n: 32, r: 1, scale: 1 }] },
  { name: 'rank above the width', m: 5, k: 16, layers: [{ n: 16, r: 24, scale: 0.25 }] },
  { name: 'bias', m: 9, k: 64, layers: [{ n: 33, r: 4, scale: 2, bias: true }] },
  { name: 'no pair', m: 9, k: 64, layers: [{ n: 33 }] },
  { name: 'no pair, bias', m: 9, k: 64, layers: [{ n: 33, bias: true }] },
  { name: 'three layers', m: 33, k: 64, layers: qkv(64, 32, {}) },
  {
    name: 'three layers of different ranks',
    m: 9,
    k: 64,
    layers: [
      { n: 33, r: 4, scale: 2 },
      { n: 31, r: 7, scale: 0.5, bias: true },
      { n: 1, r: 2, scale: -1 },
    ],
  },
  {
    name: 'the middle one without a pair',
    m: 9,
    k: 64,
    layers: [{ n: 33, r: 4, scale: 2 }, { n: 32 }, { n: 16, r: 8, scale: 1 }],
  },
  ...(['nf4', 'fp4', 'int8'] as const).map((quant) => ({
    name: `${quant}`,
    m: 9,
    k: 64,
    layers: [{ n: 48, r: 8, scale: 2, quant }],
  })),
  { name: 'nf4, nested', m: 33, k: 128, layers: [{ n: 96, r: 8, scale: 2, quant: 'nf4', nested: true }] },
  { name: 'nf4, nested, one row', m: 1, k: 128, layers: [{ n: 96, r: 8, scale: 2, quant: 'nf4', nested: true }] },
  { name: 'nf4, blocks that span rows', m: 5, k: 67, layers: [{ n: 31, r: 4, scale: 2, quant: 'nf4', nested: true }] },
  { name: 'nf4, no pair', m: 5, k: 64, layers: [{ n: 32, quant: 'nf4' }] },
  { name: 'three nf4 layers', m: 17, k: 64, layers: qkv(64, 32, { quant: 'nf4', nested: true }) },
  {
    name: 'two nf4 layers and a dense one',
    m: 9,
    k: 64,
    layers: [
      { n: 32, r: 4, scale: 1, quant: 'nf4' },
      { n: 32, r: 4, scale: 1, quant: 'nf4', nested: true, bias: true },
      { n: 16, r: 4, scale: 1 },
    ],
  },
  { name: 'f32 pairs', m: 9, k: 64, layers: qkv(64, 32, { adapter: 'f32' }), dtypes: ['f16', 'bf16'] },
  {
    name: 'nf4 with f32 pairs',
    m: 9,
    k: 64,
    layers: qkv(64, 32, { adapter: 'f32', quant: 'nf4', nested: true }),
    dtypes: ['f16', 'bf16'],
  },
  {
    name: 'three nf4 layers, many rows',
    m: 260,
    k: 128,
    layers: qkv(64, 32, { adapter: 'f32', quant: 'nf4', nested: true }),
    dtypes: ['f16'],
  },
  { name: 'sliced', m: 9, k: 64, layers: [{ n: 33, r: 4, scale: 2 }], layout: 'sliced' },
  { name: 'window', m: 9, k: 64, layers: [{ n: 32, r: 8, scale: 2, quant: 'nf4' }], layout: 'window' },
  { name: 'a NaN in x', m: 9, k: 64, layers: qkv(64, 32, { quant: 'nf4' }), values: spiked({ 70: NaN }) },
  { name: 'a NaN in x, dense', m: 9, k: 64, layers: qkv(64, 32, {}), values: spiked({ 70: NaN }) },
  { name: 'a block', m: 130, k: 576, layers: [{ n: 192, r: 16, scale: 2 }], dtypes: ['f32'] },
  {
    name: 'an nf4 block',
    m: 67,
    k: 576,
    layers: [{ n: 192, r: 16, scale: 2, quant: 'nf4', nested: true }],
    dtypes: ['f32', 'bf16'],
  },
];

export function linearAttrs({ layers, k }: LoraSetup): readonly LinearAttrs[] {
  return layers.map(({ n, r, scale, quant }) => ({
    outFeatures: n,
    ...(quant ? { quant: { quantType: quant, blockSize: 64, shape: [n, k] } } : {}),
    ...(r ? { scale: scale ?? 1 } : {}),
  }));
}

export function linearInputs({ layers, k }: LoraSetup) {
  return layers.map(({ n, r, bias, quant, nested, adapter }) => {
    const pair = (shape: readonly number[], size: number): Operand =>
      adapter ? of(adapter, shape, normal(size)) : t(shape, { values: normal(size) });
    return {
      ...(quant
        ? { quant: quantOperands({ quantType: quant, blockSize: 64, shape: [n, k] }, nested) }
        : { weight: t([n, k], { values: normal(0.1) }) }),
      ...(bias ? { bias: t([n]) } : {}),
      ...(r ? { a: pair([r, k], 0.1), b: pair([n, r], 0.1) } : {}),
    };
  });
}

export const cases = defineCases<LoraLinear>(
  setups.map(
    (setup): CaseInit<LoraLinear> => ({
      name: setup.name,
      ...(setup.dtypes ? { dtypes: setup.dtypes } : {}),
      inputs: {
        x: t([setup.m, setup.k], setup),
        layers: linearInputs(setup),
      } as CaseInit<LoraLinear>['inputs'],
      attrs: { layers: linearAttrs(setup) },
      ...(setup.layout ? { outputs: { y: setup.layout } } : {}),
    }),
  ),
  // The dequantized weight, h and the pair may be rounded to the half dtype on the way.
  rowTolerance(4e-6, 4),
);
