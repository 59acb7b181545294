/** A whole backend in plain TypeScript: f32 and integers in ArrayBuffers, twelve primitives, nothing fused. */
import {
  type Backend,
  binaryOps,
  isFloat,
  philox,
  sizeOf,
  unaryOps,
  uniformFromBits,
  type View,
} from '@lowrank/kernels';
import { hostMemory } from './memory.ts';
import { map, places, read, settled, write } from './views.ts';

/** Where element i of the rows that ids name lies in their table; below 0 where there is no such row. */
function rowOf(table: View, ids: View): (i: number) => number {
  const [width, rows] = [sizeOf(table.shape.slice(1)), read(ids)];
  return (i) => {
    const row = rows[Math.floor(i / width)]!;
    return row >= 0 && row < table.shape[0]! ? row * width + (i % width) : -1;
  };
}

const primitives: Backend['primitives'] = {
  fill: ({ outputs: { y }, attrs }) => write(y, () => settled(attrs.value, y.dtype)),
  iota: ({ outputs: { y }, attrs: { axis, start, step, shape } }) => {
    const inner = sizeOf(shape.slice(axis + 1));
    write(y, (i) => settled(start + step * (Math.floor(i / inner) % shape[axis]!), y.dtype));
  },
  random: ({ inputs, outputs: { y }, attrs: { distribution, site } }) => {
    const [lo, hi, step, stream] = read(inputs.seed) as unknown as [number, number, number, number];
    const bits = (i: number) => philox([i >> 2, site, step, stream], [lo, hi])[i & 3]!;
    const uniform = (i: number) => uniformFromBits(bits(i));
    const normal = (i: number) =>
      Math.sqrt(-2 * Math.log(uniform(i & ~1) + 2 ** -24)) * Math[i & 1 ? 'sin' : 'cos'](2 * Math.PI * uniform(i | 1));
    write(y, { bits, uniform, normal }[distribution]);
  },
  copy: ({ inputs: { x }, outputs: { y } }) => map(y, [x], (v) => v),
  cast: ({ inputs: { x }, outputs: { y } }) => map(y, [x], (v) => (isFloat(x.dtype) ? settled(v, y.dtype) : v)),
  unary: ({ inputs: { x }, outputs: { y }, attrs: { op, p = 0, q = 0 } }) =>
    map(y, [x], (v) => settled(unaryOps[op].js(v, p, q), y.dtype)),
  binary: ({ inputs: { a, b }, outputs: { y }, attrs: { op } }) =>
    map(y, [a, b], op === 'mul' && !isFloat(a.dtype) ? Math.imul : binaryOps[op].js),
  select: ({ inputs: { cond, a, b }, outputs: { y } }) => map(y, [cond, a, b], (c, x, z) => (c ? x : z)),
  reduce: ({ inputs: { x }, outputs: { y }, attrs: { op, axes } }) => {
    const values = read(x);
    const start = { sum: 0, sumSquares: 0, max: -Infinity, min: Infinity, argmax: -1 }[op];
    const out = new Float64Array(sizeOf(y.shape)).fill(start);
    const strides = x.shape.map((_, axis) => (axes.includes(axis) ? 0 : sizeOf(y.shape.slice(axis + 1))));
    const along = (i: number) => Math.floor(i / sizeOf(x.shape.slice(axes[0]! + 1))) % x.shape[axes[0]!]!;
    const best = new Float64Array(out.length);
    places({ shape: x.shape, strides }, (at, i) => {
      const v = values[i]!;
      if (op === 'sum') out[at]! += v;
      else if (op === 'sumSquares') out[at]! += v * v;
      else if (op !== 'argmax') out[at] = Math[op](out[at]!, v);
      else if (out[at]! < 0 || v > best[at]! || (Number.isNaN(v) && !Number.isNaN(best[at]!)))
        [out[at], best[at]] = [along(i), v];
    });
    write(y, (i) => out[i]!);
  },
  matmul: ({ inputs: { a, b, c }, outputs: { y }, attrs: { alpha = 1, beta = 1 } }) => {
    const [m, k, n] = [a.shape.at(-2)!, a.shape.at(-1)!, b.shape.at(-1)!];
    const [left, right, added, out] = [read(a), read(b), c && read(c), new Float64Array(sizeOf(y.shape))];
    for (let row = 0; row * n < out.length; row++)
      for (let inner = 0; inner < k; inner++) {
        const [v, from] = [left[row * k + inner]!, (Math.floor(row / m) * k + inner) * n];
        for (let column = 0; column < n; column++) out[row * n + column]! += v * right[from + column]!;
      }
    write(y, (i) => alpha * out[i]! + (added ? beta * added[i]! : 0));
  },
  gather: ({ inputs: { table, ids }, outputs: { y } }) => {
    const [from, place] = [read(table), rowOf(table, ids)];
    write(y, (i) => settled(from[place(i)] ?? 0, y.dtype));
  },
  scatterAdd: ({ inputs: { into, ids, x }, outputs: { y } }) => {
    const [sum, place] = [read(into), rowOf(into, ids)];
    for (const [i, v] of read(x).entries()) if (place(i) >= 0) sum[place(i)]! += v;
    write(y, (i) => sum[i]!);
  },
};

export default async function customBackend(): Promise<Backend> {
  const { memory, close } = hostMemory();
  const here = { store: true, compute: true, fastMatmul: false };
  const absent = { store: false, compute: false, fastMatmul: false };
  return {
    name: 'custom',
    caps: {
      device: 'plain TypeScript',
      dtypes: { f32: here, i32: here, u32: here, u8: here, f16: absent, bf16: absent },
      preferredCompute: 'f32',
      limits: { maxBufferBytes: 2 ** 31 },
      features: [],
      asynchronous: false,
    },
    memory,
    primitives,
    fused: {},
    synchronize: async () => {},
    close: async () => close(),
  };
}
