/** What a derivative rule may use: tensors of the caller's kind, so that rules live beside their formulas and import nothing. */
export interface Algebra<T> {
  unary(op: string, x: T, p?: number, q?: number): T;
  binary(op: 'add' | 'sub' | 'mul' | 'div' | 'max' | 'min' | 'pow', a: T, b: T): T;
  /** x where `cond` ≠ 0 (u8), else 0. */
  where(cond: T, x: T): T;
  compare(op: 'eq' | 'lt' | 'gt' | 'le' | 'ge', a: T, b: T): T;
  /** p · x + q */
  affine(x: T, p: number, q: number): T;
}

/** dL/dx from g = dL/dy; tensors are of the algebra's own kind. */
export type UnaryRule = (m: Algebra<unknown>, g: unknown, x: unknown, y: unknown, p: number, q: number) => unknown;

/** One elementwise function in every language. In `wgsl` and `cuda` the argument is `x` (f32), parameters are `p` and `q`. */
export interface UnaryRow {
  readonly js: (x: number, p: number, q: number) => number;
  readonly wgsl: string;
  readonly cuda: string;
  /** True when the op is also defined on integers. */
  readonly integers?: boolean;
  /** dL/dx from g = dL/dy. `saves` tells which of x and y the rule reads. */
  readonly saves: readonly ('x' | 'y')[];
  readonly vjp: UnaryRule | 'none';
}

const rows = {
  /** y = p·x + q */
  affine: {
    js: (x, p, q) => p * x + q,
    wgsl: 'p * x + q',
    cuda: 'p * x + q',
    integers: true,
    saves: [],
    vjp: (m, g, _x, _y, p) => m.affine(g, p, 0),
  },
  neg: { js: (x) => -x, wgsl: '-x', cuda: '-x', integers: true, saves: [], vjp: (m, g) => m.affine(g, -1, 0) },
  /** |x|; the derivative at 0 is 0. */
  abs: {
    js: Math.abs,
    wgsl: 'abs(x)',
    cuda: 'fabsf(x)',
    integers: true,
    saves: ['x'],
    vjp: (m, g, x) => m.binary('mul', g, m.unary('sign', x)),
  },
  sign: {
    js: (x) => (x > 0 ? 1 : x < 0 ? -1 : x),
    wgsl: 'select(select(x, -1.0, x < 0.0), 1.0, x > 0.0)',
    cuda: '(x > 0.f ? 1.f : x < 0.f ? -1.f : x)',
    integers: true,
    saves: [],
    vjp: 'none',
  },
  floor: { js: Math.floor, wgsl: 'floor(x)', cuda: 'floorf(x)', integers: true, saves: [], vjp: 'none' },
  exp: { js: Math.exp, wgsl: 'exp(x)', cuda: 'expf(x)', saves: ['y'], vjp: (m, g, _x, y) => m.binary('mul', g, y) },
  log: { js: Math.log, wgsl: 'log(x)', cuda: 'logf(x)', saves: ['x'], vjp: (m, g, x) => m.binary('div', g, x) },
  sqrt: {
    js: Math.sqrt,
    wgsl: 'sqrt(x)',
    cuda: 'sqrtf(x)',
    saves: ['y'],
    vjp: (m, g, _x, y) => m.affine(m.binary('div', g, y), 0.5, 0),
  },
  /** y = 1/√x, dy/dx = −y³/2 */
  rsqrt: {
    js: (x) => 1 / Math.sqrt(x),
    wgsl: 'inverseSqrt(x)',
    cuda: 'rsqrtf(x)',
    saves: ['y'],
    vjp: (m, g, _x, y) => m.affine(m.binary('mul', g, m.binary('mul', y, m.unary('square', y))), -0.5, 0),
  },
  reciprocal: {
    js: (x) => 1 / x,
    wgsl: '1.0 / x',
    cuda: '1.f / x',
    saves: ['y'],
    vjp: (m, g, _x, y) => m.affine(m.binary('mul', g, m.unary('square', y)), -1, 0),
  },
  square: {
    js: (x) => x * x,
    wgsl: 'x * x',
    cuda: 'x * x',
    integers: true,
    saves: ['x'],
    vjp: (m, g, x) => m.affine(m.binary('mul', g, x), 2, 0),
  },
  sin: {
    js: Math.sin,
    wgsl: 'sin(x)',
    cuda: 'sinf(x)',
    saves: ['x'],
    vjp: (m, g, x) => m.binary('mul', g, m.unary('cos', x)),
  },
  cos: {
    js: Math.cos,
    wgsl: 'cos(x)',
    cuda: 'cosf(x)',
    saves: ['x'],
    vjp: (m, g, x) => m.affine(m.binary('mul', g, m.unary('sin', x)), -1, 0),
  },
  /** dy/dx = 1 − y² */
  tanh: {
    js: Math.tanh,
    wgsl: 'select(tanh(clamp(x, -15.0, 15.0)), x, x != x)',
    cuda: 'tanhf(x)',
    saves: ['y'],
    vjp: (m, g, _x, y) => m.binary('mul', g, m.affine(m.unary('square', y), -1, 1)),
  },
  /** y = 1/(1 + e⁻ˣ), dy/dx = y(1 − y) */
  sigmoid: {
    js: (x) => 1 / (1 + Math.exp(-x)),
    wgsl: '1.0 / (1.0 + exp(-x))',
    cuda: '1.f / (1.f + expf(-x))',
    saves: ['y'],
    vjp: (m, g, _x, y) => m.binary('mul', g, m.binary('mul', y, m.affine(y, -1, 1))),
  },
  /** y = x·σ(x), dy/dx = σ(x)(1 + x(1 − σ(x))) */
  silu: {
    js: (x) => x / (1 + Math.exp(-x)),
    wgsl: 'x / (1.0 + exp(-x))',
    cuda: 'x / (1.f + expf(-x))',
    saves: ['x'],
    vjp: (m, g, x) => {
      const s = m.unary('sigmoid', x);
      return m.binary('mul', g, m.binary('mul', s, m.affine(m.binary('mul', x, m.affine(s, -1, 1)), 1, 1)));
    },
  },
  relu: {
    js: (x) => (x > 0 ? x : x !== x ? x : 0),
    wgsl: 'select(select(0.0, x, x != x), x, x > 0.0)',
    cuda: '(x > 0.f ? x : x != x ? x : 0.f)',
    saves: ['x'],
    vjp: (m, g, x) => m.where(m.compare('gt', x, m.affine(x, 0, 0)), g),
  },
  /** min(max(x, p), q); the derivative is 1 inside [p, q] */
  clamp: {
    js: (x, p, q) => (x < p ? p : x > q ? q : x),
    wgsl: 'select(select(x, q, x > q), p, x < p)',
    cuda: '(x < p ? p : x > q ? q : x)',
    saves: ['x', 'y'],
    vjp: (m, g, x, y) => m.where(m.compare('eq', x, y), g),
  },
} as const satisfies Record<string, UnaryRow>;

export type UnaryOp = keyof typeof rows;

/** Every elementwise function of one argument. Adding a row here adds it everywhere. */
export const unaryOps = rows as Readonly<Record<UnaryOp, UnaryRow>>;
