import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { LowrankError, specOf, type View } from '@lowrank/kernels';
import { afterEach, describe, expect, test } from 'vitest';
import { available, type WebGpuBackend, webgpuBackend } from '../src/index.ts';
import { whyNoAdapter } from './adapter.ts';

const reason = await whyNoAdapter();
const open: WebGpuBackend[] = [];
const create = async (options = {}) => {
  const backend = await webgpuBackend(options);
  open.push(backend);
  return backend;
};
afterEach(async () => {
  for (const backend of open.splice(0)) await backend.close();
});
const tensor = (backend: WebGpuBackend, shape: readonly number[]): View => ({
  ...specOf(shape, 'f32'),
  buffer: backend.memory.allocate(shape.reduce((n, d) => n * d, 4)),
  byteOffset: 0,
});
const step = (backend: WebGpuBackend, x: View) =>
  backend.primitives.unary({ inputs: { x }, outputs: { y: x }, attrs: { op: 'silu' } });

describe.skipIf(reason !== undefined)(`faults of WebGPU${reason ? ` (skipped: ${reason})` : ''}`, () => {
  test('a lost device is named by every later call and wait', async () => {
    const backend = await create();
    const x = tensor(backend, [64]);
    step(backend, x);
    backend.device.destroy();
    await backend.device.lost;
    expect(() => step(backend, x)).toThrow(/webgpu: the device was lost: .* resume from the last checkpoint/);
    expect(() => backend.memory.allocate(64)).toThrow(LowrankError);
    expect(() => backend.memory.write(x.buffer, 0, new Uint8Array(4))).toThrow(LowrankError);
    await expect(backend.memory.read(x.buffer, 0, 4)).rejects.toThrow(LowrankError);
    await expect(backend.synchronize()).rejects.toThrow(/webgpu: the device was lost/);
  });

  test('a device lost while a read waits rejects it', async () => {
    const backend = await create();
    const x = tensor(backend, [64]);
    step(backend, x);
    const pending = backend.memory.read(x.buffer, 0, 256);
    backend.device.destroy();
    await expect(pending).rejects.toThrow(LowrankError);
  });

  test('a command that the device refuses is reported once, with the op', async () => {
    const backend = await create();
    const x = tensor(backend, [64]);
    (x.buffer as unknown as { gpu: GPUBuffer }).gpu.destroy();
    step(backend, x);
    await expect(backend.synchronize()).rejects.toThrow(/the device refused a command/);
    await backend.synchronize();
  });

  test('more memory than a buffer may have is refused at once, with both sizes', async () => {
    const backend = await create();
    const most = backend.caps.limits.maxBufferBytes;
    expect(() => backend.memory.allocate(most + 16)).toThrow(
      new RegExp(`allocate: larger than the device allows: ${most + 16} bytes; largest buffer ${most}`),
    );
  });

  test('out of memory says what was asked, what is held and what would fit; a smaller request works', async () => {
    const backend = await create();
    const { device } = backend;
    const [make, pop] = [device.createBuffer.bind(device), device.popErrorScope.bind(device)];
    let refused = false;
    device.createBuffer = (descriptor) => {
      refused = descriptor.size > 3 * 2 ** 20;
      return make(descriptor);
    };
    device.popErrorScope = () => {
      const message = 'the driver has none';
      return pop().then(refused ? () => ({ message }) : undefined);
    };
    const held = backend.memory.reservedBytes();
    backend.memory.release(backend.memory.allocate(2 ** 24));
    await expect(backend.synchronize()).rejects.toThrow(
      new RegExp(
        `allocate: out of device memory: asked ${2 ** 24} bytes beside ${held} held; ${2 ** 21} more would fit; the driver has none`,
      ),
    );
    const x = tensor(backend, [64]);
    step(backend, x);
    await backend.synchronize();
    backend.memory.release(x.buffer);
    expect(backend.memory.reservedBytes()).toBe(held);
  });

  test('nothing is written, read or waited for inside a recording', async () => {
    const backend = await create();
    const x = tensor(backend, [64]);
    backend.record!.begin();
    expect(() => backend.record!.begin()).toThrow(/under way already/);
    expect(() => backend.memory.write(x.buffer, 0, new Uint8Array(4))).toThrow(/recorded step/);
    await expect(backend.memory.read(x.buffer, 0, 4)).rejects.toThrow(/recorded step/);
    await expect(backend.synchronize()).rejects.toThrow(/recorded step/);
    backend.record!.abort();
    await backend.synchronize();
  });

  test('a recording keeps its buffers until it is released', async () => {
    const backend = await create();
    const before = backend.memory.reservedBytes();
    const x = tensor(backend, [1024]);
    backend.memory.write(x.buffer, 0, new Uint8Array(Float32Array.from({ length: 1024 }, () => 2).buffer));
    backend.record!.begin();
    step(backend, x);
    const recording = backend.record!.end();
    backend.memory.release(x.buffer);
    recording.replay();
    await backend.synchronize();
    expect(backend.memory.reservedBytes()).toBeGreaterThan(before);
    recording.release();
    expect(backend.memory.reservedBytes()).toBe(before);
    expect(() => recording.replay()).toThrow(/after release/);
  });

  test('says why there is no adapter', async () => {
    const none = { requestAdapter: async () => null } as unknown as GPU;
    expect(await available({ gpu: none })).toEqual({ ok: false, reason: expect.stringMatching(/^webgpu: no adapter/) });
    await expect(webgpuBackend({ gpu: none })).rejects.toThrow(LowrankError);
  });

  test('an adapter without optional features serves, and says what it lacks', async () => {
    const backend = await create({ features: 'portable' });
    expect(backend.caps.features).toEqual(['core-features-and-limits']);
    expect(backend.variants()).toContainEqual({
      name: 'subgroup-matrix',
      inUse: false,
      reason: expect.stringMatching(/lacks/),
    });
    await expect(backend.gpuTime(() => {})).rejects.toThrow(/timestamp-query/);
    expect(backend.device.limits.maxStorageBuffersPerShaderStage).toBe(8);
    expect(backend.device.limits.maxComputeWorkgroupStorageSize).toBe(16384);
  });

  test('a profile has every dispatch, replayed ones too, and ends', async (context) => {
    const backend = await create();
    if (!backend.caps.features?.includes('timestamp-query')) return context.skip('the device has no timestamp-query');
    const x = tensor(backend, [64]);
    backend.record!.begin();
    step(backend, x);
    const recording = backend.record!.end();
    const stop = backend.profile();
    for (let i = 0; i < 3000; i++) step(backend, x);
    recording.replay();
    const times = await stop();
    step(backend, x);
    await backend.synchronize();
    expect(times).toHaveLength(3001);
    for (const { op, file, groups, nanoseconds } of times) {
      expect([op, file, groups]).toEqual(['unary', 'unary/unary.wgsl', [1, 1, 1]]);
      expect(nanoseconds).toBeGreaterThanOrEqual(0);
    }
    recording.release();
  });

  test('tuning measures, and its answer serves the next backend', async () => {
    const backend = await create();
    const { large } = await backend.tune();
    expect(large.BM * large.BN).toBeGreaterThan(0);
    const next = await create({ tuning: { large } });
    const x = tensor(next, [600, 600]);
    next.primitives.matmul({ inputs: { a: x, b: x }, outputs: { y: tensor(next, [600, 600]) }, attrs: {} });
    await next.synchronize();
  });

  test('a process ends cleanly with work in flight', async () => {
    const source = new URL('../src/index.ts', import.meta.url).href;
    const program = `
      const { webgpuBackend } = await import(${JSON.stringify(source)});
      const b = await webgpuBackend();
      const x = { dtype: 'f32', shape: [2 ** 16], strides: [1], buffer: b.memory.allocate(2 ** 18), byteOffset: 0 };
      for (let i = 0; i < 100; i++) b.primitives.unary({ inputs: { x }, outputs: { y: x }, attrs: { op: 'sin' } });
      void b.memory.read(x.buffer, 0, 64).catch(() => {});
      console.log('enqueued');
      if (process.argv[1] === 'throw') throw new Error('on purpose');
      process.exit(0);`;
    const run = (how: string) =>
      promisify(execFile)(process.execPath, ['--conditions=source', '--input-type=module', '-e', program, how]).then(
        ({ stdout }) => ({ code: 0, signal: null, stdout }),
        (error: { code: number; signal: string | null; stdout: string }) => error,
      );
    for (let i = 0; i < 2; i++) expect(await run('exit')).toMatchObject({ code: 0, stdout: 'enqueued\n' });
    expect(await run('throw')).toMatchObject({ code: 1, signal: null, stdout: 'enqueued\n' });
  });
});
