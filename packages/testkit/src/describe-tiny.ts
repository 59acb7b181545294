import { type Backend, bytesOf, contiguousStrides, type DeviceBuffer, type DType, type View } from '@lowrank/kernels';
import { backward, crossEntropy, Device, matmul, noGrad, Scope, type Tensor, transpose } from '@lowrank/tensor';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

/**
 * What a new backend passes first, in the order in which it comes alive: memory, copies, one primitive after the other, a recording, and a
 * little model that learns. Plain numbers, f32 and i32, no strides but a transpose. Then comes `describeBackend`.
 */
export function describeTiny({
  name,
  create,
}: {
  readonly name: string;
  readonly create: () => Promise<Backend>;
}): void {
  describe(`${name}, tiny`, () => {
    let backend: Backend;
    const held: DeviceBuffer[] = [];
    beforeAll(async () => {
      backend = await create();
    });
    afterAll(async () => {
      for (const buffer of held) backend.memory.release(buffer);
      await backend?.close();
    });

    const bytesFor = (n: number) => Math.ceil(Math.max(n, 1) / backend.memory.alignment) * backend.memory.alignment;
    const empty = (shape: readonly number[], dtype: DType = 'f32'): View => {
      const buffer = backend.memory.allocate(bytesFor(shape.reduce((n, d) => n * d, 1) * bytesOf[dtype]));
      held.push(buffer);
      return { buffer, byteOffset: 0, dtype, shape, strides: contiguousStrides(shape) };
    };
    const view = (shape: readonly number[], values: readonly number[], dtype: 'f32' | 'i32' | 'u32' = 'f32'): View => {
      const y = empty(shape, dtype);
      const typed = dtype === 'f32' ? Float32Array.from(values) : Int32Array.from(values);
      backend.memory.write(y.buffer, 0, new Uint8Array(typed.buffer));
      return y;
    };
    const read = async ({ buffer, shape, dtype }: View): Promise<number[]> => {
      const n = shape.reduce((p, d) => p * d, 1);
      const bytes = Uint8Array.from(await backend.memory.read(buffer, 0, n * bytesOf[dtype])).buffer;
      if (dtype === 'u8') return Array.from(new Uint8Array(bytes));
      return Array.from(dtype === 'f32' ? new Float32Array(bytes) : new Int32Array(bytes));
    };
    const near = (actual: readonly number[], expected: readonly number[]) => {
      expect(actual.length).toBe(expected.length);
      for (const [i, e] of expected.entries()) expect(actual[i]).toBeCloseTo(e, 4);
    };

    test('1. memory: what is written is read', async () => {
      const x = view([5], [1, -2, 3.5, 0, 1e6]);
      expect(await read(x)).toEqual([1, -2, 3.5, 0, 1e6]);
    });

    test('2. memory: copies', async () => {
      const [x, y] = [view([4], [1, 2, 3, 4]), view([4], [0, 0, 0, 0])];
      backend.memory.copy(x.buffer, 0, y.buffer, 0, 16);
      expect(await read(y)).toEqual([1, 2, 3, 4]);
    });

    test('3. copy: rows to columns', async () => {
      const [x, y] = [view([2, 3], [1, 2, 3, 4, 5, 6]), empty([3, 2])];
      const transposed = { ...x, shape: [3, 2], strides: [1, 3] };
      backend.primitives.copy({ inputs: { x: transposed }, outputs: { y }, attrs: {} });
      expect(await read(y)).toEqual([1, 4, 2, 5, 3, 6]);
    });

    test('4. fill and iota', async () => {
      const [y, z] = [empty([3]), empty([4], 'i32')];
      backend.primitives.fill({ inputs: {}, outputs: { y }, attrs: { shape: [3], dtype: 'f32', value: 2.5 } });
      backend.primitives.iota({
        inputs: {},
        outputs: { y: z },
        attrs: { shape: [4], dtype: 'i32', axis: 0, start: 7, step: -2 },
      });
      expect(await read(y)).toEqual([2.5, 2.5, 2.5]);
      expect(await read(z)).toEqual([7, 5, 3, 1]);
    });

    test('5. unary', async () => {
      const [x, y] = [view([3], [-1, 0, 2]), empty([3])];
      backend.primitives.unary({ inputs: { x }, outputs: { y }, attrs: { op: 'exp' } });
      near(await read(y), [Math.exp(-1), 1, Math.exp(2)]);
      backend.primitives.unary({ inputs: { x }, outputs: { y }, attrs: { op: 'affine', p: 3, q: 1 } });
      near(await read(y), [-2, 1, 7]);
    });

    test('6. binary, compare, select, cast', async () => {
      const [a, b, y] = [view([3], [1, 5, -2]), view([3], [4, 5, -6]), empty([3])];
      backend.primitives.binary({ inputs: { a, b }, outputs: { y }, attrs: { op: 'mul' } });
      expect(await read(y)).toEqual([4, 25, 12]);
      const cond = empty([3], 'u8');
      backend.primitives.binary({ inputs: { a, b }, outputs: { y: cond }, attrs: { op: 'ge' } });
      expect(await read(cond)).toEqual([0, 1, 1]);
      backend.primitives.select({ inputs: { cond, a, b }, outputs: { y }, attrs: {} });
      expect(await read(y)).toEqual([4, 5, -2]);
      const whole = empty([3], 'i32');
      backend.primitives.cast({ inputs: { x: y }, outputs: { y: whole }, attrs: { dtype: 'i32' } });
      expect(await read(whole)).toEqual([4, 5, -2]);
    });

    test('7. reduce', async () => {
      const [x, rows, most] = [view([2, 3], [1, 2, 3, 4, 9, -6]), empty([2, 1]), empty([1, 3])];
      backend.primitives.reduce({ inputs: { x }, outputs: { y: rows }, attrs: { op: 'sum', axes: [1] } });
      backend.primitives.reduce({ inputs: { x }, outputs: { y: most }, attrs: { op: 'max', axes: [0] } });
      expect(await read(rows)).toEqual([6, 7]);
      expect(await read(most)).toEqual([4, 9, 3]);
    });

    test('8. matmul', async () => {
      const [a, b, y] = [view([2, 3], [1, 2, 3, 4, 5, 6]), view([3, 2], [1, 0, 0, 1, 2, 2]), empty([2, 2])];
      backend.primitives.matmul({ inputs: { a, b }, outputs: { y }, attrs: {} });
      expect(await read(y)).toEqual([7, 8, 16, 17]);
    });

    test('9. gather, scatterAdd, random', async () => {
      const [table, ids, y] = [view([3, 2], [1, 2, 3, 4, 5, 6]), view([3], [2, 0, 2], 'i32'), empty([3, 2])];
      backend.primitives.gather({ inputs: { table, ids }, outputs: { y }, attrs: {} });
      expect(await read(y)).toEqual([5, 6, 1, 2, 5, 6]);
      const sum = empty([3, 2]);
      backend.primitives.scatterAdd({ inputs: { into: table, ids, x: y }, outputs: { y: sum }, attrs: {} });
      expect(await read(sum)).toEqual([2, 4, 3, 4, 15, 18]);
      const [seed, bits] = [view([4], [0, 0, 0, 0], 'u32'), empty([4], 'u32')];
      backend.primitives.random({
        inputs: { seed },
        outputs: { y: bits },
        attrs: { shape: [4], dtype: 'u32', distribution: 'bits', site: 0 },
      });
      expect((await read(bits)).map((word) => word >>> 0)).toEqual([0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]); // Random123's known answer
    });

    /** A model of two layers that learns to tell rows apart; the losses of six steps of gradient descent. */
    async function learn(record: boolean): Promise<number[]> {
      const device = new Device(backend);
      const data = (shape: readonly number[], f: (i: number) => number) =>
        device.tensor(
          Float32Array.from({ length: shape.reduce((n, d) => n * d, 1) }, (_, i) => f(i)),
          { shape },
        );
      const x = data([6, 4], (i) => Math.sin(i * 1.7));
      const labels = device.tensor(Int32Array.of(0, 1, 2, 0, 1, 2));
      const weights = [data([5, 4], (i) => Math.cos(i) / 2), data([3, 5], (i) => Math.sin(2 + i) / 2)].map((w) =>
        w.requireGrad(),
      );
      const step = (): Tensor => {
        using s = new Scope();
        const [first, second] = weights as [Tensor, Tensor];
        const loss = crossEntropy(matmul(matmul(x, transpose(first)).silu(), transpose(second)), labels).mean();
        backward(loss);
        noGrad(() => {
          for (const w of weights) {
            const moved = w.sub(w.grad!.mul(0.5));
            device.runPrimitive('copy', { inputs: { x: moved.view }, outputs: { y: w.view }, attrs: {} } as never);
            w.grad!.dispose();
            w.grad = undefined;
          }
        });
        return s.keep(loss.detach());
      };
      const losses: number[] = [];
      const recording = record ? device.record(step) : undefined;
      for (let i = 0; i < 6; i++) {
        recording?.replay();
        const loss = recording?.result ?? step();
        losses.push(await loss.item());
        if (!recording) loss.dispose();
      }
      recording?.result.dispose();
      recording?.dispose();
      for (const t of [x, labels, ...weights]) t.dispose();
      expect(device.memory().live).toBe(0);
      device.pool.trim();
      return losses;
    }

    test('10. a little model learns, and leaks nothing', async () => {
      const losses = await learn(false);
      for (const [i, loss] of losses.entries()) if (i > 0) expect(loss).toBeLessThan(losses[i - 1]!);
    });

    test('11. recorded once and replayed, it gives the same bits', async () => {
      expect(await learn(true)).toEqual(await learn(false));
    });
  });
}
