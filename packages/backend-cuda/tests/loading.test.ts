import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { available } from '../src/available.ts';
import { cudaBackend } from '../src/index.ts';
import { ncclPaths } from '../src/locate.ts';
import { fakeDriver } from './support/emulated.ts';
import { failWith, nativeAddon, openFake, reset } from './support/native.ts';

const native = nativeAddon();

beforeEach(reset);
afterEach(reset);

describe('loading the driver', () => {
  test('says that there is none', () => {
    expect(native.loadDriver(['/nowhere/libcuda.so.1'])).toMatchObject({
      ok: false,
      code: 'no-driver',
      reason: expect.stringContaining('/nowhere/libcuda.so.1'),
    });
  });
  test('takes the first that opens', () => {
    expect(native.loadDriver(['/nowhere/libcuda.so.1', fakeDriver])).toMatchObject({
      ok: true,
      path: fakeDriver,
      version: 13000,
      deviceCount: 1,
    });
  });
  test('names a function that the library lacks', () => {
    expect(native.loadDriver(['libm.so.6'])).toMatchObject({
      ok: false,
      code: 'old-driver',
      reason: expect.stringMatching(/libm.*has no cuInit/),
    });
  });
  test('refuses a driver before CUDA 12', () => {
    process.env.FAKE_CUDA_VERSION = '11080';
    expect(native.loadDriver([fakeDriver])).toMatchObject({
      ok: false,
      code: 'old-driver',
      reason: expect.stringContaining('11.8, 12.0 or later is needed'),
    });
  });
  test('says that there is no GPU', () => {
    process.env.FAKE_CUDA_DEVICES = '0';
    expect(native.loadDriver([fakeDriver])).toMatchObject({ ok: false, code: 'no-device' });
    process.env.FAKE_CUDA_DEVICES = '1';
    failWith('cuInit=100');
    expect(native.loadDriver([fakeDriver])).toMatchObject({ ok: false, code: 'no-device' });
  });
  test('passes on why the driver does not start', () => {
    failWith('cuInit=999');
    expect(native.loadDriver([fakeDriver])).toMatchObject({
      ok: false,
      code: 'init-failed',
      reason: expect.stringContaining('CUDA_ERROR_999'),
    });
    failWith('cuDeviceGetCount=2');
    expect(native.loadDriver([fakeDriver])).toMatchObject({
      ok: false,
      code: 'init-failed',
      reason: expect.stringContaining('CUDA_ERROR_OUT_OF_MEMORY'),
    });
  });
  test('a context that cannot be made is an error, and can be tried again', () => {
    const driver = native.loadDriver([fakeDriver]);
    if (!driver.ok) throw new Error(driver.reason);
    failWith('cuDevicePrimaryCtxRetain=2@1');
    expect(() => native.openDevice(driver.driver, 0)).toThrow(/openDevice: CUDA_ERROR_OUT_OF_MEMORY/);
    const device = native.openDevice(driver.driver, 0);
    expect(native.closeDevice(device)).toEqual({ memories: 0, bytes: 0 });
  });
});

describe('cuBLASLt', () => {
  test('says where it was looked for', () => {
    const { device } = openFake(native);
    expect(native.loadBlas(device, ['/nowhere/libcublasLt.so.13'])).toMatchObject({
      ok: false,
      reason: expect.stringContaining('/nowhere/libcublasLt.so.13'),
    });
    expect(native.loadBlas(device, ['libm.so.6'])).toMatchObject({
      ok: false,
      reason: expect.stringContaining('has no cublasLtCreate'),
    });
    expect(() =>
      native.matmulPlan(device, {
        m: 1,
        n: 1,
        k: 1,
        transA: false,
        transB: false,
        typeA: 0,
        typeB: 0,
        typeD: 0,
        workspaceBytes: 0,
      }),
    ).toThrow(/cuBLASLt is not loaded/);
    expect(native.loadBlas(device, ['libm.so.6', fakeDriver])).toMatchObject({ ok: true, version: 130000 });
    native.closeDevice(device);
  });
});

describe('NCCL', () => {
  test('says where it was looked for; what was loaded stays', () => {
    expect(native.loadNccl(['/nowhere/libnccl.so.2'])).toMatchObject({
      ok: false,
      reason: expect.stringContaining('/nowhere/libnccl.so.2'),
    });
    process.env.LOWRANK_NCCL = 'libm.so.6';
    expect(available()).toMatchObject({
      ok: true,
      nccl: {
        ok: false,
        reason: expect.stringContaining('libm.so.6 has no ncclGetVersion: NCCL 2.14 or later is needed'),
      },
    });
    process.env.LOWRANK_NCCL = fakeDriver;
    expect(native.loadNccl(['libm.so.6', fakeDriver])).toEqual({ ok: true, path: fakeDriver, version: 22703 });
    expect(native.loadNccl(['/nowhere/libnccl.so.2'])).toMatchObject({ ok: true, path: fakeDriver });
  });
  test('is looked for in the packages of pip, and where LOWRANK_NCCL says alone', () => {
    const folder = mkdtempSync(join(tmpdir(), 'lowrank-nccl-'));
    const kept = { ...process.env };
    try {
      mkdirSync(join(folder, 'nvidia/nccl/lib'), { recursive: true });
      const file = join(folder, 'nvidia/nccl/lib/libnccl.so.2');
      writeFileSync(file, '');
      process.env.PYTHONPATH = folder;
      process.env.LOWRANK_NCCL = '';
      expect(ncclPaths()).toContain(file);
      expect(ncclPaths()[0]).toBe('libnccl.so.2');
      process.env.LOWRANK_NCCL = '/mine/libnccl.so';
      expect(ncclPaths()).toEqual(['/mine/libnccl.so']);
    } finally {
      for (const name of ['PYTHONPATH', 'LOWRANK_NCCL'])
        if (kept[name] === undefined) delete process.env[name];
        else process.env[name] = kept[name];
      rmSync(folder, { recursive: true });
    }
  });
});

describe('available', () => {
  test('says what there is', () => {
    expect(available()).toMatchObject({
      ok: true,
      driver: { path: fakeDriver, version: '13.0' },
      devices: [{ name: 'Emulated GPU', computeMajor: 8 }],
      blas: { ok: true },
      nccl: { ok: true, path: fakeDriver, version: '2.27.3' },
    });
  });
  test('refuses a GPU before Ampere, by its name', async () => {
    process.env.FAKE_CUDA_CAPABILITY = '75';
    expect(available()).toMatchObject({
      ok: false,
      code: 'old-device',
      reason: 'Emulated GPU has compute capability 7.5; 8.0 (Ampere) or later is needed',
    });
    await expect(cudaBackend()).rejects.toThrow('cuda: the GPU is too old: Emulated GPU has compute capability 7.5');
  });
  test('a device that is not there is named', async () => {
    await expect(cudaBackend({ device: 3 })).rejects.toThrow('cuda: no such device: device 3 of 1');
  });
  test('a device that fails does not throw out of available()', () => {
    failWith('cuDevicePrimaryCtxRetain=2');
    expect(available()).toMatchObject({
      ok: false,
      code: 'device-failed',
      reason: expect.stringContaining('CUDA_ERROR_OUT_OF_MEMORY'),
    });
  });
});
