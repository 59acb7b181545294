import {
  type Algebra,
  type BinaryOp,
  binaryOps,
  check,
  type DType,
  describe,
  type FloatDType,
  isFloat,
  type PrimitiveName,
  type PrimitiveOps,
  type ReduceOp,
  sameShape,
  type UnaryOp,
  unaryOps,
} from '@lowrank/kernels';
import { axisOf, broadcastShapes } from '../shape.ts';
import type { Tensor } from '../tensor.ts';
import { primitive, type Rule } from './call.ts';
import { copyRule, expand, reshape, transpose } from './views.ts';

/** What the elementwise tables' derivative rules are written in. */
const algebra: Algebra<unknown> = {
  unary: (op, x, p, q) => unary(op as UnaryOp, x as Tensor, p, q),
  binary: (op, a, b) => binary(op, a as Tensor, b as Tensor),
  compare: (op, a, b) => binary(op, a as Tensor, b as Tensor),
  affine: (x, p, q) => unary('affine', x as Tensor, p, q),
  where: (cond, x) => select(cond as Tensor, x as Tensor, unary('affine', x as Tensor, 0, 0)),
};

/** The derivative of every primitive; total, so that a new primitive does not compile without one. Equations stand above the rules. */
const rules: { readonly [P in PrimitiveName]: Rule<PrimitiveOps[P]> | 'none' } = {
  fill: 'none',
  iota: 'none',
  random: 'none',
  // dx = dy, back in x's dtype
  cast: { saves: () => [], vjp: (c) => ({ x: cast(c.grad('y')!, c.spec('x').dtype) }) },
  // see kernels/unary/table.ts
  unary: {
    saves: (_, { op }) => unaryOps[op].saves,
    vjp: ({ attrs: { op, p = 0, q = 0 }, grad, saved }) => {
      const { vjp, saves } = unaryOps[op];
      check(vjp !== 'none', op, 'has no derivative', '', 'Use detach() if the gradient is meant to stop');
      return {
        x: vjp(
          algebra,
          grad('y')!,
          saves.includes('x') ? saved('x') : undefined,
          saves.includes('y') ? saved('y') : undefined,
          p,
          q,
        ) as Tensor,
      };
    },
  },
  // see kernels/binary/table.ts
  binary: {
    saves: (needs, { op }) => {
      const { saves } = binaryOps[op];
      return [...new Set([...(needs('a') ? saves.a : []), ...(needs('b') ? saves.b : [])])];
    },
    vjp: ({ attrs: { op }, grad, saved, needs }) => {
      const row = binaryOps[op];
      check(row.vjp !== 'none', op, 'has no derivative', '', 'Use detach() if the gradient is meant to stop');
      const rule = row.vjp;
      const one = (side: 'a' | 'b') => {
        if (!needs(side)) return undefined;
        const read = (name: 'a' | 'b' | 'y') => (row.saves[side].includes(name) ? saved(name) : undefined);
        return rule[side](algebra, grad('y')!, read('a'), read('b'), read('y')) as Tensor;
      };
      return { a: one('a'), b: one('b') };
    },
  },
  // da = cond ? dy : 0, db = cond ? 0 : dy
  select: {
    saves: () => ['cond'],
    vjp: ({ grad, saved, needs }) => {
      const g = grad('y')!;
      const zero = unary('affine', g, 0, 0);
      return {
        a: needs('a') ? select(saved('cond'), g, zero) : undefined,
        b: needs('b') ? select(saved('cond'), zero, g) : undefined,
      };
    },
  },
  // sum: dx = dy; sumSquares: dx = 2·x·dy; max, min: dy shared equally among the elements that reach it
  reduce: {
    saves: (_, { op }) => (op === 'sum' ? [] : op === 'sumSquares' ? ['x'] : ['x', 'y']),
    vjp: ({ attrs: { op }, grad, saved, spec }) => {
      check(op !== 'argmax', 'argmax', 'has no derivative');
      const { shape, dtype } = spec('x');
      const g = expand(cast(grad('y')!, dtype), shape);
      if (op === 'sum') return { x: g };
      if (op === 'sumSquares') return { x: unary('affine', binary('mul', g, saved('x')), 2, 0) };
      const hit = cast(binary('eq', saved('x'), expand(saved('y'), shape)), dtype);
      const axes = shape.map((_, i) => i).filter((i) => spec('y').shape[i] !== shape[i]);
      return { x: binary('div', binary('mul', g, hit), expand(reduce('sum', hit, axes, true), shape)) };
    },
  },
  // da = alpha · dy · bᵀ, db = alpha · aᵀ · dy, dc = beta · dy
  matmul: {
    saves: (needs) => [...(needs('a') ? ['b'] : []), ...(needs('b') ? ['a'] : [])],
    vjp: ({ attrs: { alpha = 1, beta = 1 }, grad, saved, needs, spec }) => {
      const g = grad('y')!;
      return {
        a: needs('a') ? matmul(g, transpose(saved('b')), { alpha, dtype: spec('a').dtype as FloatDType }) : undefined,
        b: needs('b') ? matmul(transpose(saved('a')), g, { alpha, dtype: spec('b').dtype as FloatDType }) : undefined,
        c: needs('c') ? cast(beta === 1 ? g : unary('affine', g, beta, 0), spec('c').dtype) : undefined,
      };
    },
  },
  copy: copyRule as Rule<PrimitiveOps['copy']>,
  // dtable[ids] += dy
  gather: {
    saves: () => ['ids'],
    vjp: ({ grad, saved, spec }) => {
      const { shape, dtype } = spec('table');
      const g = grad('y')!;
      const into = g.device.zeros(shape, dtype);
      return { table: primitive('scatterAdd', 'none', { into, ids: saved('ids'), x: g }, {}, { into: { y: into } }).y };
    },
  },
  // dinto = dy, dx = dy[ids]
  scatterAdd: {
    saves: () => ['ids'],
    vjp: ({ grad, saved, spec }) => ({
      into: grad('y'),
      x: primitive('gather', 'none', { table: grad('y')!, ids: saved('ids') }, { dtype: spec('x').dtype }).y,
    }),
  },
};

export function cast(x: Tensor, dtype: DType): Tensor {
  if (x.dtype === dtype) return expand(x, x.shape);
  return primitive('cast', isFloat(dtype) && isFloat(x.dtype) ? rules.cast : 'none', { x }, { dtype }).y;
}

export function unary(op: UnaryOp, x: Tensor, p?: number, q?: number): Tensor {
  return primitive(
    'unary',
    rules.unary,
    { x },
    { op, ...(p === undefined ? {} : { p }), ...(q === undefined ? {} : { q }) },
  ).y;
}

/** Elementwise with broadcasting; one dtype. */
export function binary(op: BinaryOp, a: Tensor, b: Tensor): Tensor {
  if (sameShape(a.shape, b.shape)) return primitive('binary', rules.binary, { a, b }, { op }).y;
  const shape = broadcastShapes(a.shape, b.shape, op);
  const x = expand(a, shape);
  const z = expand(b, shape);
  const y = primitive('binary', rules.binary, { a: x, b: z }, { op }).y;
  x.dispose();
  z.dispose();
  return y;
}

/** cond ≠ 0 ? a : b with broadcasting. */
export function select(cond: Tensor, a: Tensor, b: Tensor): Tensor {
  const shape = broadcastShapes(broadcastShapes(a.shape, b.shape, 'select'), cond.shape, 'select');
  return primitive('select', rules.select, { cond: expand(cond, shape), a: expand(a, shape), b: expand(b, shape) }, {})
    .y;
}

/** Reduces axes (all by default). Reduced axes are dropped unless `keepAxes`. */
export function reduce(
  op: ReduceOp,
  x: Tensor,
  axes?: number | readonly number[],
  keepAxes = false,
  dtype?: DType,
): Tensor {
  const list = (axes === undefined ? x.shape.map((_, i) => i) : typeof axes === 'number' ? [axes] : axes)
    .map((a) => axisOf(a, x.rank, op))
    .sort((p, q) => p - q);
  const y = primitive('reduce', rules.reduce, { x }, { op, axes: list, ...(dtype ? { dtype } : {}) }).y;
  if (keepAxes || list.length === 0) return y;
  const out = reshape(
    y,
    x.shape.filter((_, i) => !list.includes(i)),
  );
  y.dispose();
  return out;
}

/** alpha · a·b + beta · c over the last two axes; batch axes broadcast. */
export function matmul(
  a: Tensor,
  b: Tensor,
  options: { alpha?: number; beta?: number; c?: Tensor; dtype?: FloatDType; into?: Tensor } = {},
): Tensor {
  check(
    a.rank >= 2 && b.rank >= 2,
    'matmul',
    'needs matrices',
    () => `a ${describe(a)}, b ${describe(b)}`,
    'Use reshape to add axes',
  );
  const { c, into, ...attrs } = options;
  const batch = broadcastShapes(a.shape.slice(0, -2), b.shape.slice(0, -2), 'matmul');
  const grow = (t: Tensor) =>
    t.rank === batch.length + 2 && sameShape(t.shape.slice(0, -2), batch)
      ? t
      : expand(t, [...batch, ...t.shape.slice(-2)]);
  return primitive('matmul', rules.matmul, { a: grow(a), b: grow(b), ...(c ? { c } : {}) } as never, attrs, {
    cost: 'expensive',
    ...(into ? { into: { y: into } } : {}),
  }).y;
}

/** Rows of a table by integer ids; ids outside the table give zeros. */
export function gather(table: Tensor, ids: Tensor, dtype?: DType): Tensor {
  return primitive('gather', rules.gather, { table, ids }, dtype ? { dtype } : {}).y;
}

/** `into` with rows of x added at ids. */
export function scatterAdd(into: Tensor, ids: Tensor, x: Tensor): Tensor {
  return primitive('scatterAdd', rules.scatterAdd, { into, ids, x }, {}).y;
}
