import {
  bf16Code,
  bytesOf,
  type DType,
  leaves,
  mapLeaves,
  sizeOf,
  specOf,
  type TensorSpec,
  type View,
} from '@lowrank/kernels';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { adapterFacts, findAdapter, openDevice } from '../src/adapter.ts';
import { createBackend, type WebGpuBackend } from '../src/backend.ts';
import { whyNoAdapter } from './adapter.ts';

const reason = await whyNoAdapter();
/** Bytes that a binding may have in these tests. */
const maxBinding = 4096;

type Run = (backend: WebGpuBackend, views: Record<string, View>) => void;
interface Case {
  readonly inputs: Record<string, TensorSpec>;
  readonly outputs: Record<string, TensorSpec>;
  readonly run: Run;
  /** Sums may meet in another order. */
  readonly near?: boolean;
}
const f32 = (...shape: number[]) => specOf(shape, 'f32');
const half = (...shape: number[]) => specOf(shape, 'bf16');
const turned = (...shape: number[]): TensorSpec => ({ dtype: 'f32', shape, strides: [1, shape[0]!] });

/** Calls on operands larger than a binding, which are done in parts. */
const cases: Record<string, Case> = {
  'add of rows': {
    inputs: { a: f32(40, 67), b: f32(40, 67) },
    outputs: { y: f32(40, 67) },
    run: (b, { a, b: second, y }) =>
      b.primitives.binary({ inputs: { a: a!, b: second! }, outputs: { y: y! }, attrs: { op: 'add' } }),
  },
  'copy to columns, two bytes each': {
    inputs: { x: half(61, 40) },
    outputs: { y: { dtype: 'bf16', shape: [61, 40], strides: [1, 61] } },
    run: (b, { x, y }) => b.primitives.copy({ inputs: { x: x! }, outputs: { y: y! }, attrs: {} }),
  },
  'random numbers': {
    inputs: {},
    outputs: { y: f32(33, 67) },
    run: (b, { y }) => {
      const seed: View = { ...specOf([4], 'u32'), buffer: b.memory.allocate(16), byteOffset: 0 };
      b.memory.write(seed.buffer, 0, new Uint8Array(Uint32Array.of(1, 2, 3, 4).buffer));
      b.primitives.random({
        inputs: { seed },
        outputs: { y: y! },
        attrs: { shape: [33, 67], dtype: 'f32', distribution: 'uniform', site: 1 },
      });
      b.memory.release(seed.buffer);
    },
  },
  'gather from a long table': {
    inputs: { table: f32(200, 16), ids: specOf([50], 'i32') },
    outputs: { y: f32(50, 16) },
    run: (b, { table, ids, y }) =>
      b.primitives.gather({ inputs: { table: table!, ids: ids! }, outputs: { y: y! }, attrs: {} }),
  },
  matmul: {
    inputs: { a: f32(70, 40), b: f32(40, 50), c: f32(70, 50) },
    outputs: { y: f32(70, 50) },
    near: true,
    run: (b, { a, b: second, c, y }) =>
      b.primitives.matmul({ inputs: { a: a!, b: second!, c: c! }, outputs: { y: y! }, attrs: { alpha: 0.5 } }),
  },
  'matmul with both transposed': {
    inputs: { a: turned(70, 40), b: turned(40, 50) },
    outputs: { y: f32(70, 50) },
    near: true,
    run: (b, { a, b: second, y }) =>
      b.primitives.matmul({ inputs: { a: a!, b: second! }, outputs: { y: y! }, attrs: {} }),
  },
  'matmul in batches': {
    inputs: { a: f32(5, 20, 30), b: f32(5, 30, 20) },
    outputs: { y: f32(5, 20, 20) },
    near: true,
    run: (b, { a, b: second, y }) =>
      b.primitives.matmul({ inputs: { a: a!, b: second! }, outputs: { y: y! }, attrs: {} }),
  },
  softmax: {
    inputs: { x: f32(40, 67) },
    outputs: { y: f32(40, 67) },
    run: (b, { x, y }) => b.fused.softmax!.run({ inputs: { x: x! }, outputs: { y: y! }, attrs: {} }),
  },
  swigluBackward: {
    inputs: { dy: f32(40, 32), x: f32(40, 64) },
    outputs: { dx: f32(40, 64) },
    run: (b, { dy, x, dx }) =>
      b.fused.swigluBackward!.run({ inputs: { dy: dy!, x: x! }, outputs: { dx: dx! }, attrs: {} }),
  },
  'dropout keeps its mask': {
    inputs: { x: f32(40, 67), seed: specOf([4], 'u32') },
    outputs: { y: f32(40, 67) },
    run: (b, { x, seed, y }) =>
      b.fused.dropout!.run({ inputs: { x: x!, seed: seed! }, outputs: { y: y! }, attrs: { p: 0.5, site: 3 } }),
  },
};

function bytesFor(spec: TensorSpec, salt: number): Uint8Array {
  const n = sizeOf(spec.shape);
  const value = (i: number) => Math.sin(i * 1.7 + salt);
  const whole = (i: number) => Math.abs(Math.floor(value(i) * 240));
  const make: Record<string, () => ArrayBufferView> = {
    f32: () => Float32Array.from({ length: n }, (_, i) => value(i)),
    i32: () => Int32Array.from({ length: n }, (_, i) => whole(i)),
    u32: () => Uint32Array.from({ length: n }, (_, i) => whole(i)),
    bf16: () =>
      new Uint16Array(Float32Array.from({ length: n }, (_, i) => value(i)).buffer).filter((_, i) => i % 2 === 1),
  };
  return new Uint8Array(make[spec.dtype as DType]!().buffer);
}

async function results(backend: WebGpuBackend, { inputs, outputs, run }: Case): Promise<Map<string, Uint8Array>> {
  const place = (spec: TensorSpec): View => ({
    ...spec,
    buffer: backend.memory.allocate(sizeOf(spec.shape) * bytesOf[spec.dtype]),
    byteOffset: 0,
  });
  const views = mapLeaves<TensorSpec, View>({ ...inputs, ...outputs }, place) as Record<string, View>;
  for (const [i, [name, spec]] of Object.entries(inputs).entries())
    backend.memory.write(views[name]!.buffer, 0, bytesFor(spec, i));
  run(backend, views);
  const read = new Map<string, Uint8Array>();
  for (const { path, value } of leaves<TensorSpec>(outputs))
    read.set(
      path,
      Uint8Array.from(await backend.memory.read(views[path]!.buffer, 0, sizeOf(value.shape) * bytesOf[value.dtype])),
    );
  for (const view of Object.values(views)) backend.memory.release(view.buffer);
  return read;
}

describe.skipIf(reason !== undefined)(`operands larger than a binding${reason ? ` (skipped: ${reason})` : ''}`, () => {
  let whole: WebGpuBackend;
  let parts: WebGpuBackend;
  beforeAll(async () => {
    const open = async (limits: { maxBinding?: number }) => {
      const adapter = await findAdapter({});
      const device = await openDevice(adapter);
      return createBackend(device, adapterFacts(adapter.info, device), limits).backend;
    };
    whole = await open({});
    parts = await open({ maxBinding });
  });
  afterAll(async () => {
    await whole?.close();
    await parts?.close();
  });

  for (const [name, c] of Object.entries(cases))
    test(`${name} gives the same numbers in parts`, async () => {
      const [expected, got] = [await results(whole, c), await results(parts, c)];
      for (const [path, bytes] of expected) {
        if (!c.near) expect(got.get(path), path).toEqual(bytes);
        else {
          const [a, b] = [new Float32Array(bytes.buffer), new Float32Array(got.get(path)!.buffer)];
          expect(Math.max(...a.map((v, i) => Math.abs(v - b[i]!)))).toBeLessThan(1e-4);
        }
      }
    });

  test('what cannot be cut is refused with the op and the sizes', () => {
    const long: View = { ...specOf([2, 2048], 'f32'), buffer: parts.memory.allocate(16384), byteOffset: 0 };
    expect(() => parts.fused.softmax!.run({ inputs: { x: long }, outputs: { y: long }, attrs: {} })).toThrow(
      /softmax: operand larger than a binding of this device: \d+ bytes, limit 4096/,
    );
    parts.memory.release(long.buffer);
  });
});

describe.skipIf(reason !== undefined)('large tensors', () => {
  test('each invocation makes several elements', async () => {
    const adapter = await findAdapter({});
    const device = await openDevice(adapter);
    const { backend } = createBackend(device, adapterFacts(adapter.info, device));
    const n = 2 ** 21 + 2 ** 10 + 3;
    for (const dtype of ['f32', 'bf16'] as const) {
      const size = dtype === 'f32' ? n : 2 * n - 1;
      const y: View = {
        ...specOf([size], dtype),
        buffer: backend.memory.allocate(size * bytesOf[dtype]),
        byteOffset: 0,
      };
      backend.primitives.iota({
        inputs: {},
        outputs: { y },
        attrs: { shape: [size], dtype, axis: 0, start: 0, step: 1 },
      });
      const bytes = Uint8Array.from(await backend.memory.read(y.buffer, 0, size * bytesOf[dtype])).buffer;
      const wrong =
        dtype === 'f32'
          ? new Float32Array(bytes).findIndex((v, i) => v !== i)
          : new Uint16Array(bytes).findIndex((code, i) => code !== bf16Code(i));
      expect(wrong).toBe(-1);
      backend.memory.release(y.buffer);
    }
    await backend.close();
  });
});
