import { f16Code, f16Value, specOf, type View } from '@lowrank/kernels';
import { afterEach, describe, expect, test } from 'vitest';
import { adapterFacts, findAdapter, openDevice } from '../src/adapter.ts';
import { createBackend } from '../src/backend.ts';
import { tryMatrices } from '../src/probe.ts';
import { whyNoAdapter } from './adapter.ts';
import { emulate } from './emulate.ts';

const reason = await whyNoAdapter();
const open: ReturnType<typeof createBackend>[] = [];
afterEach(async () => {
  for (const { backend } of open.splice(0)) await backend.close();
});

/** A device that says it has subgroup matrices. `texts` is what its compiler gets of a shader. */
async function claiming(texts: (code: string, label: string) => string): Promise<ReturnType<typeof createBackend>> {
  const adapter = await findAdapter({});
  const device = await openDevice(adapter);
  const make = device.createShaderModule.bind(device);
  device.createShaderModule = (descriptor) =>
    make({ ...descriptor, code: texts(descriptor.code, descriptor.label ?? '') });
  const opened = createBackend(device, adapterFacts(adapter.info, device));
  open.push(opened);
  const { launcher, backend } = opened;
  launcher.variants.software = false;
  const names = ['chromium-experimental-subgroup-matrix', 'shader-f16', 'subgroups'];
  Object.assign(launcher.gpu, { features: new Set([...launcher.gpu.features, ...names]) });
  const config = { componentType: 'f16', resultComponentType: 'f32', M: 16, N: 16, K: 16 };
  await tryMatrices(backend, launcher, {
    ...{ subgroupMinSize: 32, subgroupMaxSize: 32, subgroupMatrixConfigs: [config] },
  } as unknown as GPUAdapterInfo);
  return opened;
}

describe.skipIf(reason !== undefined)(`variants that a driver refuses${reason ? ` (skipped: ${reason})` : ''}`, () => {
  test('products fall back to portable tiles; the driver’s message is told', async () => {
    const { backend, launcher } = await claiming((code) => code);
    expect(launcher.variants.matrix).toBeUndefined();
    const told = expect.stringMatching(
      /matmul: the shader does not compile here: matmul\/matrix\.wgsl: Error while parsing WGSL/,
    );
    expect(backend.refusals!()).toEqual([{ variant: 'subgroup-matrix', reason: told }]);
    expect(backend.variants()).toContainEqual({ name: 'subgroup-matrix', inUse: false, reason: told });
    const n = 128;
    const matrix = (value: (i: number) => number): View => {
      const view: View = { ...specOf([n, n], 'f16'), buffer: backend.memory.allocate(n * n * 2), byteOffset: 0 };
      const codes = Uint16Array.from({ length: n * n }, (_, i) => f16Code(value(i)));
      backend.memory.write(view.buffer, 0, new Uint8Array(codes.buffer));
      return view;
    };
    const [a, b, y] = [matrix((i) => i % 3), matrix((i) => (i % n === Math.floor(i / n) ? 2 : 0)), matrix(() => 0)];
    backend.primitives.matmul({ inputs: { a, b }, outputs: { y }, attrs: {} });
    const codes = new Uint16Array(Uint8Array.from(await backend.memory.read(y.buffer, 0, n * n * 2)).buffer);
    expect(Array.from(codes, f16Value)).toEqual(Array.from({ length: n * n }, (_, i) => 2 * (i % 3)));
  });

  test('the next kernel of attention is tried', async () => {
    const { backend, launcher } = await claiming((code, label) =>
      label.endsWith('attention/deep.wgsl') ? 'not a shader' : emulate(code),
    );
    expect(launcher.variants.attention).toBe('wide');
    const told = expect.stringMatching(/attention: the shader does not compile here: attention\/deep\.wgsl: /);
    expect(backend.refusals!()).toEqual([{ variant: 'subgroup-matrix attention, deep', reason: told }]);
  });
});
