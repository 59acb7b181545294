import { specOf, type View } from '@lowrank/kernels';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { adapterFacts, findAdapter, openDevice } from '../src/adapter.ts';
import { createBackend } from '../src/backend.ts';
import { type AttentionVariant, attentionVariants } from '../src/gpu/variants.ts';

/**
 * Kernels for subgroup matrices run on few devices, but Dawn's null backend, which has every feature and no device, checks that they are
 * valid. It may lack the workgroup memory; that is checked last.
 */
describe('kernels on subgroup matrices are valid', () => {
  let opened: ReturnType<typeof createBackend> | undefined;
  let missing = '';
  beforeAll(async () => {
    try {
      const adapter = await findAdapter({ dawn: ['backend=null', 'enable-dawn-features=allow_unsafe_apis'] });
      const device = await openDevice(adapter);
      opened = createBackend(device, adapterFacts(adapter.info, device));
      opened.launcher.variants.matrix = { memory: 'vectors', lanes: 32 };
      Object.assign(opened.launcher.gpu, { workgroupBytes: 49152 });
    } catch (error) {
      missing = String(error);
    }
  });
  afterAll(() => opened?.backend.close());

  const tensor = (dtype: 'f16' | 'f32' | 'u8', shape: readonly number[], turned = false): View => ({
    ...specOf(shape, dtype),
    ...(turned && { strides: [1, shape[0]!] }),
    buffer: opened!.backend.memory.allocate(shape.reduce((n, d) => n * d, 4)),
    byteOffset: 0,
  });
  const f16 = (turned = false) => tensor('f16', [128, 128], turned);
  const weight = () => ({
    codes: tensor('u8', [128 * 64]),
    absmax: tensor('f32', [256]),
    codebook: tensor('f32', [16]),
  });
  const quant = { quantType: 'nf4', blockSize: 64, shape: [128, 128] } as const;
  const layers = () => [{ quant: weight(), a: tensor('f32', [16, 128]), b: tensor('f32', [128, 16]) }];
  const group = { layers: [{ outFeatures: 128, scale: 2, quant }] };
  const attend = (kind: AttentionVariant) => {
    opened!.launcher.variants.attention = kind;
    const head = () => tensor('f16', [1, 128, 2, 64]);
    const [q, k, v, dy, y] = [head(), head(), head(), head(), head()];
    const lse = tensor('f32', [1, 2, 128]);
    const attrs = { scale: 0.125, causal: true };
    opened!.backend.fused.attention!.run({ inputs: { q, k, v }, outputs: { y, lse }, attrs });
    opened!.backend.fused.attentionBackward!.run({
      inputs: { dy, q, k, v, y, lse },
      outputs: { dq: head(), dk: head(), dv: head() },
      attrs,
      workspace: tensor('u8', [4096]),
    });
  };
  const calls: Record<string, () => void> = {
    'x · y': () =>
      opened!.backend.primitives.matmul({ inputs: { a: f16(), b: f16() }, outputs: { y: f16() }, attrs: {} }),
    'x · yᵀ': () =>
      opened!.backend.primitives.matmul({ inputs: { a: f16(), b: f16(true) }, outputs: { y: f16() }, attrs: {} }),
    'xᵀ · y': () =>
      opened!.backend.primitives.matmul({ inputs: { a: f16(true), b: f16() }, outputs: { y: f16() }, attrs: {} }),
    'added to c': () =>
      opened!.backend.primitives.matmul({ inputs: { a: f16(), b: f16(), c: f16() }, outputs: { y: f16() }, attrs: {} }),
    'a quantized weight': () =>
      opened!.backend.fused.quantMatmul!.run({
        inputs: { x: f16(), weight: weight() },
        outputs: { y: f16() },
        attrs: { ...quant, transposed: false },
      }),
    'a quantized weight, transposed': () =>
      opened!.backend.fused.quantMatmul!.run({
        inputs: { x: f16(), weight: weight() },
        outputs: { y: f16() },
        attrs: { ...quant, transposed: true },
      }),
    ...Object.fromEntries(attentionVariants.map((kind) => [`attention, ${kind}`, () => attend(kind)])),
    'a group with pairs': () =>
      opened!.backend.fused.loraLinear!.run({
        inputs: { x: f16(), layers: layers() },
        outputs: { y: f16(), h: tensor('f16', [128, 16]) },
        attrs: group,
      }),
  };

  for (const [name, call] of Object.entries(calls))
    test(name, async (context) => {
      if (!opened) return context.skip(missing);
      // Kinds of attention share a kernel: one that was refused before is refused at once.
      const problem = await Promise.resolve()
        .then(call)
        .then(() => opened!.backend.synchronize())
        .then(
          () => '',
          (error: Error) => error.message,
        );
      expect(problem === '' || /total use of workgroup storage \(\d+ bytes\) is larger/.test(problem), problem).toBe(
        true,
      );
    });
});
