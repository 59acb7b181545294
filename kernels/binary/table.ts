import type { Algebra } from '../unary/table.ts';

/** One elementwise function of two arguments `a` and `b` in every language; derivative rules give [da, db] lazily. */
export interface BinaryRow {
  readonly kind: 'arithmetic' | 'compare' | 'bits';
  readonly js: (a: number, b: number) => number;
  readonly wgsl: string;
  readonly cuda: string;
  /** What each operand's rule reads. */
  readonly saves: { readonly a: readonly ('a' | 'b' | 'y')[]; readonly b: readonly ('a' | 'b' | 'y')[] };
  readonly vjp: { readonly a: BinaryRule; readonly b: BinaryRule } | 'none';
}
export type BinaryRule = (m: Algebra<unknown>, g: unknown, a: unknown, b: unknown, y: unknown) => unknown;

const nan = (a: number, b: number) => (a !== a || b !== b ? NaN : undefined);
const none = { saves: { a: [], b: [] }, vjp: 'none' } as const;
const compare = (js: (a: number, b: number) => boolean, sign: string) =>
  ({
    kind: 'compare',
    js: (a: number, b: number) => (js(a, b) ? 1 : 0),
    wgsl: `select(0.0, 1.0, a ${sign} b)`,
    cuda: `(a ${sign} b ? 1.f : 0.f)`,
    ...none,
  }) as const;

const rows = {
  add: {
    kind: 'arithmetic',
    js: (a, b) => a + b,
    wgsl: 'a + b',
    cuda: 'a + b',
    saves: { a: [], b: [] },
    vjp: { a: (_m, g) => g, b: (_m, g) => g },
  },
  sub: {
    kind: 'arithmetic',
    js: (a, b) => a - b,
    wgsl: 'a - b',
    cuda: 'a - b',
    saves: { a: [], b: [] },
    vjp: { a: (_m, g) => g, b: (m, g) => m.affine(g, -1, 0) },
  },
  mul: {
    kind: 'arithmetic',
    js: (a, b) => a * b,
    wgsl: 'a * b',
    cuda: 'a * b',
    saves: { a: ['b'], b: ['a'] },
    vjp: { a: (m, g, _a, b) => m.binary('mul', g, b), b: (m, g, a) => m.binary('mul', g, a) },
  },
  /** d(a/b)/db = −y/b */
  div: {
    kind: 'arithmetic',
    js: (a, b) => a / b,
    wgsl: 'quotient(a, b)',
    cuda: 'a / b',
    saves: { a: ['b'], b: ['b', 'y'] },
    vjp: {
      a: (m, g, _a, b) => m.binary('div', g, b),
      b: (m, g, _a, b, y) => m.affine(m.binary('mul', g, m.binary('div', y, b)), -1, 0),
    },
  },
  /** NaN if either is NaN. The gradient goes to the larger; to `a` on ties. */
  max: {
    kind: 'arithmetic',
    js: (a, b) => nan(a, b) ?? Math.max(a, b),
    wgsl: 'select(select(max(a, b), b, b != b), a, a != a)',
    cuda: '(a != a ? a : b != b ? b : fmaxf(a, b))',
    saves: { a: ['a', 'b'], b: ['a', 'b'] },
    vjp: { a: (m, g, a, b) => m.where(m.compare('ge', a, b), g), b: (m, g, a, b) => m.where(m.compare('lt', a, b), g) },
  },
  min: {
    kind: 'arithmetic',
    js: (a, b) => nan(a, b) ?? Math.min(a, b),
    wgsl: 'select(select(min(a, b), b, b != b), a, a != a)',
    cuda: '(a != a ? a : b != b ? b : fminf(a, b))',
    saves: { a: ['a', 'b'], b: ['a', 'b'] },
    vjp: { a: (m, g, a, b) => m.where(m.compare('le', a, b), g), b: (m, g, a, b) => m.where(m.compare('gt', a, b), g) },
  },
  /** aᵇ for a > 0 (and a = 0 with b > 0). dy/da = b·y/a, dy/db = y·ln a */
  pow: {
    kind: 'arithmetic',
    js: (a, b) => a ** b,
    wgsl: 'pow(a, b)',
    cuda: 'powf(a, b)',
    saves: { a: ['a', 'b'], b: ['a', 'y'] },
    vjp: {
      a: (m, g, a, b) => m.binary('mul', g, m.binary('mul', b, m.binary('pow', a, m.affine(b, 1, -1)))),
      b: (m, g, a, _b, y) => m.binary('mul', g, m.binary('mul', y, m.unary('log', a))),
    },
  },
  eq: compare((a, b) => a === b, '=='),
  ne: compare((a, b) => a !== b, '!='),
  lt: compare((a, b) => a < b, '<'),
  le: compare((a, b) => a <= b, '<='),
  gt: compare((a, b) => a > b, '>'),
  ge: compare((a, b) => a >= b, '>='),
  /** Integers only; in `wgsl` and `cuda` the operands are u32 / unsigned. */
  and: { kind: 'bits', js: (a, b) => (a & b) >>> 0, wgsl: 'a & b', cuda: 'a & b', ...none },
  or: { kind: 'bits', js: (a, b) => (a | b) >>> 0, wgsl: 'a | b', cuda: 'a | b', ...none },
  shiftRight: { kind: 'bits', js: (a, b) => a >>> b, wgsl: 'a >> b', cuda: 'a >> b', ...none },
  shiftLeft: { kind: 'bits', js: (a, b) => (a << b) >>> 0, wgsl: 'a << b', cuda: 'a << b', ...none },
} as const satisfies Record<string, BinaryRow>;

export type BinaryOp = keyof typeof rows;

/** Every elementwise function of two arguments. Adding a row here adds it everywhere. */
export const binaryOps = rows as Readonly<Record<BinaryOp, BinaryRow>>;
