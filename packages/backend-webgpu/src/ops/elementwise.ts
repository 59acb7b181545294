import {
  type Backend,
  type Binary,
  bf16Code,
  binaryOps,
  bytesOf,
  type Call,
  type Cast,
  type Copy,
  type DType,
  type Fill,
  f16Code,
  type Gather,
  type Iota,
  isFloat,
  type Random,
  type Select,
  sizeOf,
  type Unary,
  unaryOps,
  type View,
} from '@lowrank/kernels';
import type { Launcher } from '../gpu/launcher.ts';
import { elementwise, rawType } from '../gpu/strided.ts';

type Elementwise = 'fill' | 'iota' | 'random' | 'cast' | 'unary' | 'binary' | 'select' | 'copy' | 'gather';

/** The primitives that make each element of y by itself. */
export function elementwisePrimitives(launcher: Launcher): Pick<Backend['primitives'], Elementwise> {
  return {
    fill: (call) => fill(launcher, call),
    iota: (call) => iota(launcher, call),
    random: (call) => random(launcher, call),
    cast: (call) => cast(launcher, call),
    unary: (call) => unary(launcher, call),
    binary: (call) => binary(launcher, call),
    select: (call) => select(launcher, call),
    copy: (call) => copy(launcher, call),
    gather: (call) => gather(launcher, call),
  };
}

function fill(launcher: Launcher, { outputs: { y }, attrs }: Call<Fill>): void {
  elementwise(launcher, {
    op: 'fill',
    file: 'fill/fill.wgsl',
    shape: y.shape,
    y: { view: y, type: rawType(y) },
    words: { u0: codeOf(attrs.value, y.dtype) },
  });
}

/** The bits that stand for a number in a dtype; integers truncate and saturate. */
function codeOf(value: number, dtype: DType): number {
  if (dtype === 'f16') return f16Code(value);
  if (dtype === 'bf16') return bf16Code(value);
  if (dtype === 'f32') return new Uint32Array(Float32Array.of(value).buffer)[0]!;
  if (Number.isNaN(value)) return 0;
  const [low, high] = dtype === 'i32' ? [-(2 ** 31), 2 ** 31 - 1] : [0, dtype === 'u32' ? 2 ** 32 - 1 : 255];
  return Math.min(Math.max(Math.trunc(value), low), high) >>> 0;
}

function iota(launcher: Launcher, { outputs: { y }, attrs }: Call<Iota>): void {
  const { shape, axis, start, step } = attrs;
  const whole =
    [start, step].every((v) => Number.isInteger(v) && Math.abs(v) < 2 ** 31) &&
    Math.abs(start) + Math.abs(step) * shape[axis]! < 2 ** 31;
  elementwise(launcher, {
    op: 'iota',
    file: 'iota/iota.wgsl',
    shape: y.shape,
    y: { view: y },
    defines: { WHOLE: whole },
    words: {
      u0: sizeOf(shape.slice(axis + 1)),
      u1: shape[axis]!,
      u2: whole ? start : 0,
      u3: whole ? step : 0,
      f0: start,
      f1: step,
    },
  });
}

function random(launcher: Launcher, { inputs: { seed }, outputs: { y }, attrs }: Call<Random>): void {
  elementwise(launcher, {
    op: 'random',
    file: 'random/random.wgsl',
    shape: y.shape,
    y: { view: y },
    a: { view: seed, strides: y.shape.map(() => 0) },
    defines: { DISTRIBUTION: attrs.distribution },
    words: { u0: attrs.site },
  });
}

function cast(launcher: Launcher, { inputs: { x }, outputs: { y } }: Call<Cast>): void {
  if (x.dtype === y.dtype) copy(launcher, { inputs: { x }, outputs: { y }, attrs: {} });
  else elementwise(launcher, { op: 'cast', file: 'cast/cast.wgsl', shape: y.shape, y: { view: y }, a: { view: x } });
}

function unary(launcher: Launcher, { inputs: { x }, outputs: { y }, attrs }: Call<Unary>): void {
  const { op, p = 0, q = 0 } = attrs;
  const common = { op: 'unary', shape: y.shape, y: { view: y }, a: { view: x } } as const;
  if (isFloat(x.dtype)) {
    elementwise(launcher, {
      ...common,
      file: 'unary/unary.wgsl',
      defines: { FORMULA: unaryOps[op].wgsl },
      words: { f0: p, f1: q },
    });
    return;
  }
  const whole = Number.isInteger(p) && Number.isInteger(q);
  elementwise(launcher, {
    ...common,
    file: 'unary/integer.wgsl',
    defines: { OP: op, WHOLE: whole },
    words: { f0: p, f1: q, u0: whole ? p : 0, u1: whole ? q : 0 },
  });
}

function binary(launcher: Launcher, { inputs: { a, b }, outputs: { y }, attrs: { op } }: Call<Binary>): void {
  const { kind, wgsl } = binaryOps[op];
  const bits = kind === 'bits' && a.dtype === 'i32';
  elementwise(launcher, {
    op: 'binary',
    file: 'binary/binary.wgsl',
    shape: y.shape,
    y: { view: y, ...(bits && { type: 'u32' as const }) },
    a: { view: a, ...(bits && { type: 'u32' as const }) },
    b: { view: b, ...(bits && { type: 'u32' as const }) },
    defines: { OP: op, KIND: kind, FORMULA: wgsl, WHOLE: !isFloat(a.dtype), UNORDERED: op === 'ne' ? 1 : 0 },
  });
}

function select(launcher: Launcher, { inputs: { cond, a, b }, outputs: { y } }: Call<Select>): void {
  elementwise(launcher, {
    op: 'select',
    file: 'select/select.wgsl',
    shape: y.shape,
    y: { view: y, type: rawType(y) },
    a: { view: a, type: rawType(a) },
    b: { view: b, type: rawType(b) },
    c: { view: cond },
  });
}

/** y = x for views of one dtype. */
export function copy(launcher: Launcher, { inputs: { x }, outputs: { y } }: Call<Copy>): void {
  elementwise(launcher, {
    op: 'copy',
    file: 'copy/copy.wgsl',
    shape: y.shape,
    y: { view: y, type: rawType(y) },
    a: { view: x, type: rawType(x) },
  });
}

/** Bytes from one buffer to another (or within one, without overlap). */
export function copyBytes(
  launcher: Launcher,
  from: View['buffer'],
  fromOffset: number,
  to: View['buffer'],
  toOffset: number,
  byteLength: number,
): void {
  const words = [fromOffset, toOffset, byteLength].every((v) => v % 4 === 0);
  const dtype = words ? 'u32' : 'u8';
  const spec = { dtype, shape: [byteLength / bytesOf[dtype]], strides: [1] } as const;
  copy(launcher, {
    inputs: { x: { ...spec, buffer: from, byteOffset: fromOffset } },
    outputs: { y: { ...spec, buffer: to, byteOffset: toOffset } },
    attrs: {},
  });
}

function gather(launcher: Launcher, { inputs: { table, ids }, outputs: { y } }: Call<Gather>): void {
  const width = table.shape.slice(1);
  const rows = table.shape[0]!;
  const pitch = table.strides[0]!;
  const raw = table.dtype === y.dtype;
  const most = rowsThatFit(launcher, table);
  for (let from = 0, pass = 0; from < rows || pass === 0; from += most, pass++) {
    const to = Math.min(rows, from + most);
    const part: View = {
      ...table,
      shape: [Math.max(to - from, 1), ...width],
      byteOffset: table.byteOffset + from * pitch * bytesOf[table.dtype],
    };
    elementwise(launcher, {
      op: 'gather',
      file: 'gather/gather.wgsl',
      shape: y.shape,
      y: { view: y, ...(raw && { type: rawType(y) }) },
      a: {
        view: part,
        strides: [...ids.shape.map(() => 0), ...table.strides.slice(1)],
        reach: Math.max(to - from - 1, 0) * pitch,
        ...(raw && { type: rawType(table) }),
      },
      b: { view: ids, strides: [...ids.strides, ...width.map(() => 0)], type: 'u32' },
      defines: { PASS: pass > 0 },
      words: { u0: from, u1: to, u2: pitch },
    });
  }
}

/** Rows of a table that one binding holds. */
function rowsThatFit(launcher: Launcher, table: View): number {
  const { maxBinding } = launcher.gpu;
  const rows = Math.max(table.shape[0]!, 1);
  if (table.buffer.byteLength <= maxBinding) return rows;
  return Math.max(1, Math.min(rows, Math.floor((maxBinding - 512) / (table.strides[0]! * bytesOf[table.dtype])) - 1));
}
