import { type DType, f16Code, f16Value, specOf, type View } from '@lowrank/kernels';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { adapterFacts, findAdapter, openDevice } from '../src/adapter.ts';
import { createBackend } from '../src/backend.ts';
import {
  type AttentionVariant,
  attentionVariants,
  type MatrixTile,
  matrixMemories,
  Variants,
} from '../src/gpu/variants.ts';
import { matrixTiles } from '../src/ops/tiles.ts';
import { tryMatrices } from '../src/probe.ts';
import { whyNoAdapter } from './adapter.ts';
import { emulate } from './emulate.ts';

interface KeysAndValues {
  readonly k: View;
  readonly v: View;
  readonly length: number;
}

const reason = await whyNoAdapter();
const [m, n, k] = [136, 144, 72] as const;
const a = (i: number, l: number) => ((i * 5 + l * 3) % 9) - 4;
const b = (l: number, j: number) => ((l * 7 + j * 2 + ((j * l) % 5)) % 7) - 3;

/** The kernels for subgroup matrices on a device without them, their matrices written out in WGSL. */
describe.skipIf(reason !== undefined)(`emulated subgroup matrices${reason ? ` (skipped: ${reason})` : ''}`, () => {
  let opened: ReturnType<typeof createBackend>;
  let emulated = 0;
  beforeAll(async () => {
    const adapter = await findAdapter({});
    const device = await openDevice(adapter);
    const make = device.createShaderModule.bind(device);
    device.createShaderModule = (descriptor) => {
      const code = emulate(descriptor.code);
      if (code !== descriptor.code) emulated++;
      return make({ ...descriptor, code });
    };
    const names = ['chromium-experimental-subgroup-matrix', 'shader-f16', 'subgroups'];
    opened = createBackend(device, adapterFacts(adapter.info, device));
    Object.assign(opened.launcher.variants, { software: false, apart: new Variants().apart });
    Object.assign(opened.launcher.gpu, { features: new Set([...opened.launcher.gpu.features, ...names]) });
  });
  afterAll(() => opened?.backend.close());

  test('products and attention pass the trial that takes them into use', async () => {
    const { backend, launcher } = opened;
    const config = { componentType: 'f16', resultComponentType: 'f32', M: 16, N: 16, K: 16 };
    await tryMatrices(backend, launcher, {
      subgroupMinSize: 32,
      subgroupMaxSize: 32,
      subgroupMatrixConfigs: [config],
    } as unknown as GPUAdapterInfo);
    expect(backend.variants()).toContainEqual({ name: 'subgroup-matrix', inUse: true });
    expect(launcher.variants.attention, JSON.stringify(backend.variants())).toBe(attentionVariants[0]);
  });

  const matrix = (rows: number, columns: number, f: (i: number, j: number) => number, turned: boolean): View => {
    const values = Array.from({ length: rows * columns }, (_, e) =>
      turned ? f(e % rows, Math.floor(e / rows)) : f(Math.floor(e / columns), e % columns),
    );
    const view: View = {
      ...specOf([rows, columns], 'f16'),
      ...(turned && { strides: [1, rows] }),
      buffer: opened.backend.memory.allocate(rows * columns * 2),
      byteOffset: 0,
    };
    opened.backend.memory.write(view.buffer, 0, new Uint8Array(Uint16Array.from(values, f16Code).buffer));
    return view;
  };
  const numbers = async (view: View, dtype: DType): Promise<number[]> => {
    const bytes = await opened.backend.memory.read(view.buffer, 0, m * n * (dtype === 'f32' ? 4 : 2));
    const raw = Uint8Array.from(bytes).buffer;
    return dtype === 'f32' ? [...new Float32Array(raw)] : Array.from(new Uint16Array(raw), f16Value);
  };

  /** What a device in software has the memory for; other tiles differ in numbers alone. */
  const tiles: readonly MatrixTile[] = [
    matrixTiles.large,
    matrixTiles.small,
    { BM: 64, BN: 64, BK: 32, M: 2, N: 2, stages: 2 },
    { BM: 64, BN: 64, BK: 64, M: 2, N: 2, stages: 1 },
    { BM: 128, BN: 64, BK: 32, M: 1, N: 4, stages: 1 },
  ];
  test('every kind of attention gives what the portable kernels give, packed samples and groups of heads too', async () => {
    const { backend, launcher } = opened;
    launcher.variants.matrix = { memory: 'vectors', lanes: 32 };
    const [T, H, D] = [128, 4, 16];
    const wave = (count: number, step: number, high: number) => {
      const buffer = backend.memory.allocate(count * 2);
      const values = Uint16Array.from({ length: count }, (_, i) => f16Code(high * Math.sin(i * step)));
      backend.memory.write(buffer, 0, new Uint8Array(values.buffer));
      return buffer;
    };
    const of = (buffer: View['buffer'], heads: number, length = T): View => ({
      ...specOf([1, length, heads, D], 'f16'),
      buffer,
      byteOffset: 0,
    });
    // Scores that rise along the keys: the reference of a query is raised many times.
    const [q, dy] = [of(wave(T * H * D, 0.7, 2), H), of(wave(T * H * D, 0.3, 1), H)];
    /** Keys and values: as many as queries, and so many that no round of 64 is the last. */
    const [equal, more] = [T, T + 32].map((length) => ({
      length,
      k: of(wave(length * 2 * D, 1.3, length === T ? 2 : 1), 2, length),
      v: of(wave(length * 2 * D, 2.1, 1), 2, length),
    })) as [KeysAndValues, KeysAndValues];
    const starts: View = { ...specOf([1, T], 'i32'), buffer: backend.memory.allocate(T * 4), byteOffset: 0 };
    backend.memory.write(
      starts.buffer,
      0,
      new Uint8Array(Int32Array.from({ length: T }, (_, i) => (i < 50 ? 0 : 50)).buffer),
    );
    const attrs = { scale: 0.9, causal: true };
    const empty = (bytes: number) => backend.memory.allocate(bytes);
    const outcome = async (
      kind: AttentionVariant | undefined,
      { k, v, length }: KeysAndValues,
    ): Promise<number[][]> => {
      launcher.variants.attention = kind;
      const [y, dq, dk, dv] = [
        of(empty(T * H * D * 2), H),
        of(empty(T * H * D * 2), H),
        of(empty(length * 2 * D * 2), 2, length),
        of(empty(length * 2 * D * 2), 2, length),
      ];
      const lse: View = { ...specOf([1, H, T], 'f32'), buffer: empty(H * T * 4), byteOffset: 0 };
      const workspace: View = { ...specOf([(H + 1) * T * 8], 'u8'), buffer: empty((H + 1) * T * 8), byteOffset: 0 };
      backend.fused.attention!.run({ inputs: { q, k, v, starts }, outputs: { y, lse }, attrs });
      backend.fused.attentionBackward!.run({
        inputs: { dy, q, k, v, y, lse, starts },
        outputs: { dq, dk, dv },
        attrs,
        workspace,
      });
      const half = async (view: View) =>
        Array.from(
          new Uint16Array(
            Uint8Array.from(
              await backend.memory.read(
                view.buffer,
                0,
                view.shape.reduce((n, d) => n * d, 2),
              ),
            ).buffer,
          ),
          f16Value,
        );
      return Promise.all([y, dq, dk, dv].map(half));
    };
    const expected = new Map([
      [equal, await outcome(undefined, equal)],
      [more, await outcome(undefined, more)],
    ]);
    for (const [kind, memory, keys] of [
      ['deep', 'vectors', equal],
      ['deep', 'words', more],
      ['wide', 'vectors', equal],
      ['narrow', 'vectors', equal],
      ['narrow', 'words', equal],
    ] as const) {
      launcher.variants.matrix = { memory, lanes: 32 };
      const before = emulated;
      const got = await outcome(kind, keys);
      expect(emulated, kind).toBeGreaterThan(before);
      for (const [i, values] of expected.get(keys)!.entries()) {
        const most = Math.max(...values.map(Math.abs));
        const off = Math.max(...values.map((x, e) => Math.abs(x - got[i]![e]!)));
        expect(off / most, `${kind}: ${['y', 'dq', 'dk', 'dv'][i]}`).toBeLessThan(5e-3);
      }
    }
    launcher.variants.attention = undefined;
  });

  test('a weight that is dequantized before gives what tiles make of it, pairs too', async () => {
    const { backend, launcher } = opened;
    launcher.variants.matrix = { memory: 'vectors', lanes: 32 };
    const [rows, width] = [n, 128];
    const count = rows * width;
    const x = matrix(m, width, a, false);
    const codes = backend.memory.allocate(count / 2);
    backend.memory.write(
      codes,
      0,
      Uint8Array.from({ length: count / 2 }, (_, i) => (i * 37) % 256),
    );
    const floats = (values: readonly number[], shape: readonly number[]): View => {
      const buffer = backend.memory.allocate(values.length * 4);
      backend.memory.write(buffer, 0, new Uint8Array(Float32Array.from(values).buffer));
      return { ...specOf(shape, 'f32'), buffer, byteOffset: 0 };
    };
    const some = (size: number, step: number) => Array.from({ length: size }, (_, i) => Math.sin(i * step));
    const quant = {
      codes: { ...specOf([count / 2], 'u8'), buffer: codes, byteOffset: 0 },
      absmax: floats(some(count / 64, 0.3), [count / 64]),
      codebook: floats(some(16, 1), [16]),
    };
    const layers = [
      { quant, a: floats(some(16 * width, 0.7), [16, width]), b: floats(some(rows * 16, 1.1), [rows, 16]) },
    ];
    const attrs = {
      layers: [
        { outFeatures: rows, scale: 0.5, quant: { quantType: 'nf4' as const, blockSize: 64, shape: [rows, width] } },
      ],
    };
    const outcomes: number[][] = [];
    const before = emulated;
    for (const from of [Infinity, 0]) {
      launcher.variants.apart = { f16: from, f32: from };
      const y: View = { ...specOf([m, rows], 'f16'), buffer: backend.memory.allocate(m * rows * 2), byteOffset: 0 };
      const h: View = { ...specOf([m, 16], 'f16'), buffer: backend.memory.allocate(m * 32), byteOffset: 0 };
      backend.fused.loraLinear!.run({ inputs: { x, layers }, outputs: { y, h }, attrs });
      outcomes.push(await numbers(y, 'f16'));
    }
    expect(emulated).toBe(before + 2);
    expect(outcomes[1]).toEqual(outcomes[0]);
    expect(outcomes[0]!.some((v) => v !== 0)).toBe(true);
  });

  test.each(['', ', weights quantized twice'])(
    'a group whose weights are dequantized side by side gives what its layers give one by one, backward too%s',
    async (nested) => {
      const { backend, launcher } = opened;
      launcher.variants.matrix = { memory: 'vectors', lanes: 32 };
      const width = 128;
      const floats = (values: readonly number[], shape: readonly number[]): View => {
        const buffer = backend.memory.allocate(values.length * 4);
        backend.memory.write(buffer, 0, new Uint8Array(Float32Array.from(values).buffer));
        return { ...specOf(shape, 'f32'), buffer, byteOffset: 0 };
      };
      // Whole numbers, so that every sum is exact in any order.
      const whole = (count: number, step: number, high: number) =>
        Array.from({ length: count }, (_, i) => ((i * step) % (2 * high + 1)) - high);
      const x = matrix(m, width, a, false);
      const dy = matrix(m, n, b, false);
      const groups = [
        [64, 16],
        [n - 64, 8],
      ] as const;
      // Shared, so that two weights fit the bindings of a software adapter.
      const books = { codebook: floats(whole(16, 1, 8), [16]), nestedCodebook: floats(whole(256, 1, 2), [256]) };
      const layers = groups.map(([rows, r], i) => {
        const codes = backend.memory.allocate((rows * width) / 2);
        const bytes = Uint8Array.from({ length: (rows * width) / 2 }, (_, e) => (e * (37 + i)) % 256);
        backend.memory.write(codes, 0, bytes);
        const blocks = (rows * width) / 64;
        const once = {
          codes: { ...specOf([bytes.length], 'u8'), buffer: codes, byteOffset: 0 },
          absmax: floats(new Array(blocks).fill(1), [blocks]),
          codebook: books.codebook,
        };
        const scales: View = { ...specOf([blocks], 'u8'), buffer: backend.memory.allocate(blocks), byteOffset: 0 };
        backend.memory.write(scales.buffer, 0, bytes.slice(0, blocks));
        const twice = { absmax: scales, nestedAbsmax: floats([1 + i], [1]), nestedCodebook: books.nestedCodebook };
        const quant = nested ? { ...once, ...twice, offset: floats([2], []) } : once;
        return {
          quant,
          a: floats(whole(r * width, 5 + i, 1), [r, width]),
          b: floats(whole(rows * r, 7, 1), [rows, r]),
        };
      });
      const attrs = {
        layers: groups.map(([rows], i) => ({
          outFeatures: rows,
          scale: 0.5 * (i + 1),
          quant: { quantType: 'nf4' as const, blockSize: 64, shape: [rows, width] as const },
        })),
      };
      const launched: string[] = [];
      let parts = 0;
      const launch = launcher.launch.bind(launcher);
      launcher.launch = (bound, file, ...rest) => {
        launched.push(file);
        if (file === 'dequantize/dequantize.wgsl') parts = Number(rest[0].PARTS);
        launch(bound, file, ...rest);
      };
      const outcomes: number[][][] = [];
      try {
        for (const from of [Infinity, 0]) {
          launcher.variants.apart = { f16: from, f32: from };
          const empty = (shape: readonly number[], dtype: DType): View => ({
            ...specOf(shape, dtype),
            buffer: backend.memory.allocate(shape.reduce((p, d) => p * d, 4)),
            byteOffset: 0,
          });
          const [y, h, dx] = [empty([m, n], 'f16'), empty([m, 24], 'f16'), empty([m, width], 'f16')];
          const da = groups.map(([, r]) => empty([r, width], 'f32'));
          const db = groups.map(([rows, r]) => empty([rows, r], 'f32'));
          const workspace = empty([m * 24 + 1024], 'f32');
          backend.fused.loraLinear!.run({ inputs: { x, layers }, outputs: { y, h }, attrs, workspace });
          backend.fused.loraLinearBackward!.run({
            inputs: { dy, x, h, layers },
            outputs: { dx, da, db },
            attrs: { ...attrs, needX: true },
            workspace,
          });
          const read = async ({ buffer, shape, dtype }: View): Promise<number[]> => {
            const bytes = await backend.memory.read(
              buffer,
              0,
              shape.reduce((p, d) => p * d, dtype === 'f32' ? 4 : 2),
            );
            const raw = Uint8Array.from(bytes).buffer;
            return dtype === 'f32' ? [...new Float32Array(raw)] : Array.from(new Uint16Array(raw), f16Value);
          };
          outcomes.push(await Promise.all([y, h, dx, ...da, ...db].map(read)));
          expect(launched.includes('lora-linear/pack.wgsl')).toBe(from === 0);
          expect(parts).toBe(from === 0 ? 2 : 0);
        }
      } finally {
        Object.assign(launcher, { launch });
      }
      expect(outcomes[1]).toEqual(outcomes[0]);
      for (const values of outcomes[0]!) expect(values.some((v) => v !== 0)).toBe(true);
    },
  );

  const memories = Object.keys(matrixMemories) as (keyof typeof matrixMemories)[];
  // Memory of f16 is twice as large here: small tiles alone.
  const kinds = tiles.flatMap((tile) =>
    (tile === matrixTiles.small ? memories : memories.slice(0, 1)).map((memory) => ({ tile, memory })),
  );
  for (const { tile, memory } of kinds)
    test(`${Object.values(tile).join('×')}, ${memory}`, async () => {
      const { backend, launcher } = opened;
      const expected = Array.from({ length: m * n }, (_, e) => {
        let sum = 0;
        for (let l = 0; l < k; l++) sum += a(Math.floor(e / n), l) * b(l, e % n);
        return sum;
      });
      launcher.variants.matrix = { memory, lanes: 32 };
      launcher.variants.matrixTile = tile;
      try {
        for (const [left, right, dtype] of [
          [false, false, 'f32'],
          [true, true, 'f16'],
        ] as const) {
          const [x, w] = [matrix(m, k, a, left), matrix(k, n, b, right)];
          const y: View = { ...specOf([m, n], dtype), buffer: backend.memory.allocate(m * n * 4), byteOffset: 0 };
          backend.primitives.matmul({ inputs: { a: x, b: w }, outputs: { y }, attrs: { dtype } });
          expect(await numbers(y, dtype)).toEqual(expected);
          for (const { buffer } of [x, w, y]) backend.memory.release(buffer);
        }
      } finally {
        launcher.variants.matrixTile = undefined;
      }
    });
});
