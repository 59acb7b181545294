import {
  type Binary,
  binaryOps,
  type Call,
  type Cast,
  type Copy,
  type DType,
  type Fill,
  type Iota,
  type Random,
  type Select,
  sizeOf,
  type Unary,
  unaryOps,
  type View,
} from '@lowrank/kernels';
import type { Engine } from '../runtime/engine.ts';
import { type Loop, loopOver, typeCode } from '../views.ts';
import { readElement, writeElement } from './scalar.ts';

/** Elements of one unit of an elementwise kernel. */
const CHUNK = 4096;

/** Op numbers of kernels/unary/unary.as.ts and what an element costs, in nanoseconds. */
const unaryIds: Readonly<Record<string, readonly [id: number, ns: number]>> = {
  affine: [0, 0.3],
  neg: [1, 0.3],
  abs: [2, 0.3],
  sign: [3, 0.4],
  floor: [4, 0.3],
  exp: [5, 1],
  log: [6, 1.2],
  sqrt: [7, 0.6],
  rsqrt: [8, 0.8],
  reciprocal: [9, 0.5],
  square: [10, 0.3],
  tanh: [11, 2],
  sigmoid: [12, 1.5],
  silu: [13, 1.5],
  relu: [14, 0.3],
  clamp: [15, 0.3],
  sin: [16, 6],
  cos: [17, 6],
};

/** Op numbers of kernels/binary/binary.as.ts. */
const binaryIds: Readonly<Record<string, number>> = Object.fromEntries(
  [
    'add',
    'sub',
    'mul',
    'div',
    'max',
    'min',
    'pow',
    'eq',
    'ne',
    'lt',
    'le',
    'gt',
    'ge',
    'and',
    'or',
    'shiftRight',
    'shiftLeft',
  ].map((op, i) => [op, i]),
);

/** Units of a loop cut into chunks, and the cost of one. */
function units(loop: Loop, ns: number): readonly [count: number, nsPerUnit: number] {
  const chunks = Math.ceil(loop.n / CHUNK);
  return [loop.rows * chunks, Math.min(loop.n, CHUNK) * ns + 30];
}

/** A pair of arguments (address, type, step) is what kernels take for an operand. */
function operand(engine: Engine, view: View, step: number): [number, number, number] {
  return [engine.pointer(view), typeCode[view.dtype], step];
}

/** Extra cost of an element that is not contiguous f32. */
function slow(...views: readonly { dtype: DType }[]): number {
  return views.some((v) => v.dtype !== 'f32') ? 1 : 0;
}

export function unary(engine: Engine, { inputs: { x }, outputs: { y }, attrs }: Call<Unary>): void {
  if (sizeOf(x.shape) === 0) return;
  const known = unaryIds[attrs.op];
  if (!known) {
    unaryByTable(engine, x, y, attrs);
    return;
  }
  const loop = loopOver(x.shape, [x.strides, y.strides]);
  const desc = engine.describe(0, loop.shape, loop.strides);
  const [id, ns] = known;
  const args = [
    id,
    ...operand(engine, x, loop.steps[0]!),
    ...operand(engine, y, loop.steps[1]!),
    loop.n,
    CHUNK,
    desc,
    attrs.p ?? 0,
    attrs.q ?? 0,
  ];
  engine.run('unary', args, ...units(loop, ns + slow(x)));
}

/** A row of the op table that has no kernel yet: its JavaScript form, element by element. */
function unaryByTable(engine: Engine, x: View, y: View, { op, p = 0, q = 0 }: Unary['attrs']): void {
  const row = unaryOps[op];
  eachOffset(x.shape, [x.strides, y.strides], ([i, j]) => {
    writeElement(engine, y, j!, row.js(readElement(engine, x, i!), p, q));
  });
}

export function binary(engine: Engine, { inputs: { a, b }, outputs: { y }, attrs: { op } }: Call<Binary>): void {
  if (sizeOf(a.shape) === 0) return;
  const id = binaryIds[op];
  if (id === undefined) {
    const row = binaryOps[op];
    eachOffset(a.shape, [a.strides, b.strides, y.strides], ([i, j, k]) => {
      writeElement(engine, y, k!, row.js(readElement(engine, a, i!), readElement(engine, b, j!)));
    });
    return;
  }
  const loop = loopOver(a.shape, [a.strides, b.strides, y.strides]);
  const desc = engine.describe(0, loop.shape, loop.strides);
  const args = [
    id,
    typeCode[a.dtype],
    engine.pointer(a),
    loop.steps[0]!,
    engine.pointer(b),
    loop.steps[1]!,
    ...operand(engine, y, loop.steps[2]!),
    loop.n,
    CHUNK,
    desc,
  ];
  engine.run('binary', args, ...units(loop, (op === 'pow' ? 40 : 0.5) + slow(a, y)));
}

/** y = x in y's dtype, from any strides to any strides. */
export function convert(engine: Engine, x: View, y: View): void {
  if (sizeOf(x.shape) === 0) return;
  const loop = loopOver(x.shape, [x.strides, y.strides]);
  const desc = engine.describe(0, loop.shape, loop.strides);
  engine.run(
    'cast',
    [...operand(engine, x, loop.steps[0]!), ...operand(engine, y, loop.steps[1]!), loop.n, CHUNK, desc],
    ...units(loop, 1),
  );
}

export function cast(engine: Engine, { inputs: { x }, outputs: { y } }: Call<Cast>): void {
  convert(engine, x, y);
}

export function copy(engine: Engine, { inputs: { x }, outputs: { y } }: Call<Copy>): void {
  convert(engine, x, y);
}

export function select(engine: Engine, { inputs: { cond, a, b }, outputs: { y } }: Call<Select>): void {
  if (sizeOf(a.shape) === 0) return;
  const loop = loopOver(a.shape, [cond.strides, a.strides, b.strides, y.strides]);
  const desc = engine.describe(0, loop.shape, loop.strides);
  const [cs, as, bs, ys] = loop.steps as [number, number, number, number];
  const args = [
    engine.pointer(cond),
    cs,
    engine.pointer(a),
    as,
    engine.pointer(b),
    bs,
    engine.pointer(y),
    typeCode[y.dtype],
    ys,
    loop.n,
    CHUNK,
    desc,
  ];
  engine.run('select', args, ...units(loop, 1.5));
}

/** Rows along `axis` (or any, for a constant): start + along · index. */
function ramp(engine: Engine, y: View, loop: Loop, start: number, along: number): void {
  const desc = engine.describe(0, loop.shape, loop.strides);
  engine.run('fill', [...operand(engine, y, loop.steps[0]!), loop.n, CHUNK, desc, start, along], ...units(loop, 0.5));
}

export function fill(engine: Engine, { outputs: { y }, attrs: { value } }: Call<Fill>): void {
  if (sizeOf(y.shape) === 0) return;
  ramp(engine, y, loopOver(y.shape, [y.strides]), value, 0);
}

export function iota(engine: Engine, { outputs: { y }, attrs: { axis, start, step } }: Call<Iota>): void {
  if (sizeOf(y.shape) === 0) return;
  const others = [...y.shape.keys()].filter((a) => a !== axis);
  const shape = others.map((a) => y.shape[a]!);
  const strides = others.map((a) => y.strides[a]!);
  const loop: Loop = { shape, strides: [strides], n: y.shape[axis]!, steps: [y.strides[axis]!], rows: sizeOf(shape) };
  ramp(engine, y, loop, start, step);
}

const distributions = { bits: 0, uniform: 1, normal: 2 } as const;

export function random(
  engine: Engine,
  { inputs: { seed }, outputs: { y }, attrs: { distribution, site } }: Call<Random>,
): void {
  if (sizeOf(y.shape) === 0) return;
  const words = contiguousSeed(engine, seed);
  const loop = loopOver(y.shape, [y.strides], false);
  const desc = engine.describe(0, loop.shape, loop.strides);
  const args = [distributions[distribution], ...operand(engine, y, loop.steps[0]!), loop.n, CHUNK, desc, words, site];
  engine.run('random', args, ...units(loop, distribution === 'normal' ? 8 : 3));
}

/** Address of the four words of a seed, moved together if they lie apart. */
export function contiguousSeed(engine: Engine, seed: View): number {
  if (seed.strides[0] === 1) return engine.pointer(seed);
  const pointer = engine.temporary(16);
  const words = new Uint32Array(engine.heap.memory.buffer, pointer, 4);
  for (let i = 0; i < 4; i++) words[i] = readElement(engine, seed, i * seed.strides[0]!);
  return pointer;
}

/** Visits all elements with the offset of each operand, in elements. */
function eachOffset(
  shape: readonly number[],
  operands: readonly (readonly number[])[],
  visit: (offsets: readonly number[]) => void,
): void {
  const index = shape.map(() => 0);
  const offsets = operands.map(() => 0);
  for (let left = sizeOf(shape); left > 0; left--) {
    visit(offsets);
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      index[axis]!++;
      operands.forEach((s, j) => {
        offsets[j]! += s[axis]!;
      });
      if (index[axis]! < shape[axis]!) break;
      operands.forEach((s, j) => {
        offsets[j]! -= s[axis]! * shape[axis]!;
      });
      index[axis] = 0;
    }
  }
}
