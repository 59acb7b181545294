import { specOf, type View } from '@lowrank/kernels';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { adapterFacts, findAdapter, openDevice } from '../src/adapter.ts';
import { createBackend } from '../src/backend.ts';

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
      opened.launcher.variants.matrix = { offsetUnit: 1, strideUnit: 1, lanes: 32 };
      opened.launcher.variants.attention = 'streamed';
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
  const attention = { scale: 0.125, causal: true };
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
    attention: () => {
      const head = () => tensor('f16', [1, 64, 2, 64]);
      opened!.backend.fused.attention!.run({
        inputs: { q: head(), k: head(), v: head() },
        outputs: { y: head(), lse: tensor('f32', [1, 2, 64]) },
        attrs: attention,
      });
    },
    'gradients of attention': () => {
      const head = () => tensor('f16', [1, 64, 2, 64]);
      const inputs = { dy: head(), q: head(), k: head(), v: head(), y: head(), lse: tensor('f32', [1, 2, 64]) };
      opened!.backend.fused.attentionBackward!.run({
        inputs,
        outputs: { dq: head(), dk: head(), dv: head() },
        attrs: attention,
        workspace: tensor('u8', [4096]),
      });
    },
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
      call();
      const problem = await opened.backend.synchronize().then(
        () => '',
        (error: Error) => error.message,
      );
      expect(problem === '' || /total use of workgroup storage \(\d+ bytes\) is larger/.test(problem), problem).toBe(
        true,
      );
    });
});
