/** A whole backend in plain TypeScript: f32 and integers in ArrayBuffers, twelve primitives, nothing fused. */
import type { Backend, DeviceBuffer, DType, Memory, View } from '@lowrank/kernels';
import {
  binaryOps,
  isContiguous,
  isFloat,
  LowrankError,
  philox,
  sizeOf,
  unaryOps,
  uniformFromBits,
} from '@lowrank/kernels';

type Numbers = ArrayLike<number> & { [i: number]: number };
type Held = DeviceBuffer & { bytes?: Uint8Array<ArrayBuffer> };

const arrays = {
  f32: Float32Array,
  i32: Int32Array,
  u32: Uint32Array,
  u8: Uint8Array,
  f16: undefined,
  bf16: undefined,
};

function bytesOf(buffer: DeviceBuffer): Uint8Array<ArrayBuffer> {
  const { bytes } = buffer as Held;
  if (!bytes) throw new LowrankError('memory', 'used after release');
  return bytes;
}

/** All elements from the first one on; `eachPlace` says which of them are the view's. */
function elements({ buffer, byteOffset, dtype }: View): Float32Array | Int32Array | Uint32Array | Uint8Array {
  const make = arrays[dtype];
  if (!make) throw new LowrankError('custom', 'no such dtype here', dtype);
  const { buffer: whole, byteLength } = bytesOf(buffer);
  // a view without elements may begin behind the end
  const start = Math.min(byteOffset, byteLength);
  return new make(whole, start, Math.floor((byteLength - start) / make.BYTES_PER_ELEMENT));
}

/** Row-major: place of each element from the first one, and its index. */
function eachPlace({ shape, strides }: Pick<View, 'shape' | 'strides'>, f: (place: number, i: number) => void): void {
  const last = shape.length - 1;
  const walk = (axis: number, place: number, i: number): number => {
    const [size, step] = [shape[axis]!, strides[axis]!];
    if (axis < last) for (let k = 0; k < size; k++) i = walk(axis + 1, place + k * step, i);
    else for (let k = 0; k < size; k++) f(place + k * step, i++);
    return i;
  };
  if (last < 0) f(0, 0);
  else walk(0, 0, 0);
}

/** The numbers of a view, row-major. */
function read(view: View): Float64Array {
  const size = sizeOf(view.shape);
  const from = elements(view);
  if (isContiguous(view)) return Float64Array.from(from.subarray(0, size));
  const out = new Float64Array(size);
  eachPlace(view, (place, i) => (out[i] = from[place]!));
  return out;
}

/** Typed arrays round to f32 and keep the low bits of integers by themselves. */
function write(view: View, values: (i: number) => number): void {
  const to = elements(view);
  eachPlace(view, (place, i) => (to[place] = values(i)));
}

const range: Partial<Record<DType, [number, number]>> = {
  i32: [-(2 ** 31), 2 ** 31 - 1],
  u32: [0, 2 ** 32 - 1],
  u8: [0, 255],
};

/** Float to integer: toward zero, as far as the type goes; NaN gives 0. */
function settle(value: number, dtype: DType): number {
  const [low, high] = range[dtype] ?? [-Infinity, Infinity];
  return isFloat(dtype) ? value : Number.isNaN(value) ? 0 : Math.min(high, Math.max(low, Math.trunc(value)));
}

/** Rows of a table that ids name: where each begins, or -1. */
function rowStarts(table: View, ids: View): { width: number; starts: number[] } {
  const width = sizeOf(table.shape.slice(1));
  return { width, starts: Array.from(read(ids), (id) => (id >= 0 && id < table.shape[0]! ? id * width : -1)) };
}

const primitives: Backend['primitives'] = {
  fill: ({ outputs, attrs }) => write(outputs.y, () => (isFloat(attrs.dtype) ? attrs.value : Math.trunc(attrs.value))),
  iota: ({ outputs: { y }, attrs: { axis, start, step, dtype, shape } }) => {
    const inner = sizeOf(shape.slice(axis + 1));
    const at = (i: number) => start + step * (Math.floor(i / inner) % shape[axis]!);
    write(y, (i) => (isFloat(dtype) ? at(i) : Math.trunc(at(i))));
  },
  random: ({ inputs, outputs: { y }, attrs: { distribution, site } }) => {
    const [lo, hi, step, stream] = read(inputs.seed) as unknown as [number, number, number, number];
    const word = (i: number) => philox([i >> 2, site, step, stream], [lo, hi])[i & 3]!;
    const normal = (i: number) => {
      const r = Math.sqrt(-2 * Math.log(uniformFromBits(word(i & ~1)) + 2 ** -24));
      const angle = 2 * Math.PI * uniformFromBits(word(i | 1));
      return r * (i & 1 ? Math.sin(angle) : Math.cos(angle));
    };
    write(y, { bits: word, uniform: (i: number) => uniformFromBits(word(i)), normal }[distribution]);
  },
  copy: ({ inputs, outputs }) => {
    const x = read(inputs.x);
    write(outputs.y, (i) => x[i]!);
  },
  cast: ({ inputs, outputs: { y } }) => {
    const x = read(inputs.x);
    const narrow = isFloat(inputs.x.dtype) ? (v: number) => settle(v, y.dtype) : (v: number) => v;
    write(y, (i) => narrow(x[i]!));
  },
  unary: ({ inputs, outputs: { y }, attrs: { op, p = 0, q = 0 } }) => {
    const x = read(inputs.x);
    write(y, (i) => settle(unaryOps[op].js(x[i]!, p, q), y.dtype));
  },
  binary: ({ inputs, outputs: { y }, attrs: { op } }) => {
    const [a, b] = [read(inputs.a), read(inputs.b)];
    const f = op === 'mul' && !isFloat(inputs.a.dtype) ? Math.imul : binaryOps[op].js;
    write(y, (i) => (isFloat(y.dtype) ? f(a[i]!, b[i]!) : Math.trunc(f(a[i]!, b[i]!))));
  },
  select: ({ inputs, outputs: { y } }) => {
    const [cond, a, b] = [read(inputs.cond), read(inputs.a), read(inputs.b)];
    write(y, (i) => (cond[i] ? a[i]! : b[i]!));
  },
  reduce: ({ inputs: { x }, outputs: { y }, attrs: { op, axes } }) => {
    const values = read(x);
    const count = sizeOf(y.shape);
    const out = new Float64Array(count).fill(op === 'max' || op === 'argmax' ? -Infinity : op === 'min' ? Infinity : 0);
    const first = new Float64Array(count).fill(-1);
    // places of x's elements in y: reduced axes do not move
    const kept = x.shape.map((_, axis) => (axes.includes(axis) ? 0 : sizeOf(y.shape.slice(axis + 1))));
    const along = x.shape.map((_, axis) => (axis === axes[0] ? 1 : 0));
    const at = new Float64Array(values.length);
    if (op === 'argmax') eachPlace({ shape: x.shape, strides: along }, (place, i) => (at[i] = place));
    eachPlace({ shape: x.shape, strides: kept }, (place, i) => {
      const v = values[i]!;
      if (op === 'sum') out[place]! += v;
      else if (op === 'sumSquares') out[place]! += v * v;
      else if (op === 'max') out[place] = Math.max(out[place]!, v);
      else if (op === 'min') out[place] = Math.min(out[place]!, v);
      else if (first[place]! < 0 || v > out[place]! || (Number.isNaN(v) && !Number.isNaN(out[place]!))) {
        out[place] = v;
        first[place] = at[i]!;
      }
    });
    write(y, (i) => (op === 'argmax' ? first[i]! : out[i]!));
  },
  matmul: ({ inputs: { a, b, c }, outputs: { y }, attrs: { alpha = 1, beta = 1 } }) => {
    const [m, k] = a.shape.slice(-2) as [number, number];
    const n = b.shape.at(-1)!;
    const [left, right, added] = [read(a), read(b), c && read(c)];
    const out: Numbers = new Float64Array(sizeOf(y.shape));
    for (let row = 0; row < sizeOf(y.shape.slice(0, -1)); row++)
      for (let inner = 0; inner < k; inner++) {
        const v = left[row * k + inner]!;
        const from = (Math.floor(row / m) * k + inner) * n;
        for (let column = 0; column < n; column++) out[row * n + column]! += v * right[from + column]!;
      }
    write(y, (i) => alpha * out[i]! + (added ? beta * added[i]! : 0));
  },
  gather: ({ inputs: { table, ids }, outputs: { y } }) => {
    const { width, starts } = rowStarts(table, ids);
    const from = read(table);
    write(y, (i) => {
      const start = starts[Math.floor(i / width)]!;
      return start < 0 ? 0 : settle(from[start + (i % width)]!, y.dtype);
    });
  },
  scatterAdd: ({ inputs: { into, ids, x }, outputs: { y } }) => {
    const { width, starts } = rowStarts(into, ids);
    const [sum, values] = [read(into), read(x)];
    values.forEach((v, i) => {
      const start = starts[Math.floor(i / width)]!;
      if (start >= 0) sum[start + (i % width)]! += v;
    });
    write(y, (i) => sum[i]!);
  },
};

/** The backend: memory in ArrayBuffers, the primitives above. */
export default async function customBackend(): Promise<Backend> {
  const live = new Set<Held>();
  let closed = false;
  const memory: Memory = {
    alignment: 16,
    pooling: { kind: 'whole' },
    allocate: (byteLength) => {
      if (closed) throw new LowrankError('allocate', 'the device is closed');
      try {
        const buffer: Held = { byteLength, bytes: new Uint8Array(byteLength) };
        live.add(buffer);
        return buffer;
      } catch (cause) {
        throw new LowrankError('allocate', 'out of memory', `asked ${byteLength} bytes`, '', { cause });
      }
    },
    release: (buffer: Held) => {
      bytesOf(buffer);
      delete buffer.bytes;
      live.delete(buffer);
    },
    write: (buffer, offset, data) => bytesOf(buffer).set(data, offset),
    read: async (buffer, offset, length) => bytesOf(buffer).slice(offset, offset + length),
    copy: (from, fromOffset, to, toOffset, length) =>
      bytesOf(to).set(bytesOf(from).subarray(fromOffset, fromOffset + length), toOffset),
    reservedBytes: () => [...live].reduce((sum, { byteLength }) => sum + byteLength, 0),
  };
  const [here, absent] = [true, false].map((yes) => ({ store: yes, compute: yes, fastMatmul: false })) as [
    never,
    never,
  ];
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
    close: async () => {
      for (const buffer of live) delete buffer.bytes;
      live.clear();
      closed = true;
    },
  };
}
