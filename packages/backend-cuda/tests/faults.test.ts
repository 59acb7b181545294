import { contiguousStrides, type View } from '@lowrank/kernels';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { cudaBackend } from '../src/index.ts';
import { CommandList } from '../src/runtime/commands.ts';
import { codeOf, failWith, image, nativeAddon, openFake, reset } from './support/native.ts';

const native = nativeAddon();
let device: number;
let stream: number;

beforeEach(() => {
  reset();
  ({ device, stream } = openFake(native));
});
afterEach(() => {
  reset();
  if (codeOf(() => native.deviceStatus(device)) !== 'LOWRANK_BAD_HANDLE') native.closeDevice(device);
});

const bytes = (...values: number[]) => Uint8Array.from(values);

describe('handles', () => {
  test('a second release, a wrong kind and an invented number are errors', () => {
    const memory = native.allocate(device, 64);
    native.release(memory);
    expect(codeOf(() => native.release(memory))).toBe('LOWRANK_BAD_HANDLE');
    expect(() => native.write(stream, memory, 0, bytes(1))).toThrow(/memory is released or closed before/);
    expect(() => native.write(device, memory, 0, bytes(1))).toThrow(/stream is a handle of a device/);
    for (const id of [0, -1, 1.5, Number.NaN, Infinity, 2 ** 52, 12345])
      expect(codeOf(() => native.release(id))).toBe('LOWRANK_BAD_HANDLE');
    // The slot is used again by another object; the old number stays dead.
    const next = native.allocate(device, 64);
    expect(next).not.toBe(memory);
    expect(codeOf(() => native.release(memory))).toBe('LOWRANK_BAD_HANDLE');
  });
  test('everything of a closed device is dead, and what was left is told', () => {
    native.allocate(device, 1000);
    const memory = native.allocate(device, 24);
    const event = native.eventCreate(device, true);
    expect(native.closeDevice(device)).toEqual({ memories: 2, bytes: 1024 });
    for (const f of [
      () => native.release(memory),
      () => native.release(event),
      () => native.allocate(device, 1),
      () => native.deviceStatus(device),
      () => native.synchronize(stream),
      () => native.closeDevice(device),
    ])
      expect(codeOf(f)).toBe('LOWRANK_BAD_HANDLE');
  });
  test('an object of another device is refused', () => {
    const other = openFake(native);
    const memory = native.allocate(other.device, 64);
    expect(() => native.write(stream, memory, 0, bytes(1))).toThrow(/another device/);
    native.closeDevice(other.device);
  });
});

describe('memory', () => {
  test('what is written is read, at any offset and size', async () => {
    const memory = native.allocate(device, 1000);
    const data = Uint8Array.from({ length: 777 }, (_, i) => i * 7);
    native.write(stream, memory, 13, data);
    const first = native.read(stream, memory, 13, 777);
    native.write(stream, memory, 13, new Uint8Array(777));
    expect(await first).toEqual(data);
    expect(await native.read(stream, memory, 14, 0)).toEqual(new Uint8Array(0));
  });
  test('a range outside is an error that says by how much', () => {
    const memory = native.allocate(device, 16);
    expect(() => native.write(stream, memory, 8, new Uint8Array(9))).toThrow(
      'cuda.write: memory reaches outside its memory: 9 bytes at offset 8 of 16',
    );
    for (const [offset, count] of [
      [-1, 1],
      [0.5, 1],
      [17, 0],
      [0, 17],
      [Number.NaN, 1],
    ] as const)
      expect(codeOf(() => native.read(stream, memory, offset, count))).toMatch(/LOWRANK_(OUT_OF_BOUNDS|BAD_ARGUMENT)/);
  });
  test('reads over 64 MiB arrive in pieces, as they were when asked for', async () => {
    const size = (64 << 20) + 12345;
    const memory = native.allocate(device, size);
    native.submit(
      stream,
      commands((c) => c.fill({ memory, offset: 0, bytes: size }, 7, 1)),
    );
    const promise = native.read(stream, memory, 0, size);
    native.submit(
      stream,
      commands((c) => c.fill({ memory, offset: 0, bytes: size }, 9, 1)),
    );
    const data = await promise;
    expect(data.length).toBe(size);
    expect(data.every((b) => b === 7)).toBe(true);
  });
  test('out of memory says what was asked and what is held, and a smaller request works', () => {
    process.env.FAKE_CUDA_MEMORY = '1000000';
    const kept = native.allocate(device, 600_000);
    expect(() => native.allocate(device, 500_000)).toThrow(
      /CUDA_ERROR_OUT_OF_MEMORY: out of memory: asked for 500000 bytes, the device has 400000 free of 1000000, this process holds 600000/,
    );
    native.release(native.allocate(device, 300_000));
    native.release(kept);
  });
  test('pinned memory is detached when it is released', () => {
    const { handle, array } = native.hostAllocate(device, 4096);
    expect(array.byteLength).toBe(4096);
    native.release(handle);
    expect(array.byteLength).toBe(0);
  });
});

function commands(body: (list: CommandList) => void): Uint8Array {
  const list = new CommandList();
  body(list);
  return list.packed;
}

describe('launches', () => {
  const kernel = (name: string) => native.functionGet(native.moduleLoad(device, image, 'module'), name);
  test('a name that no module has is an error', () => {
    expect(() => kernel('no_such_kernel')).toThrow('cuda.functionGet: no kernel no_such_kernel in module');
    expect(() => native.moduleLoad(device, new Uint8Array(100), 'x')).toThrow(/neither a fatbin nor a cubin/);
  });
  test('impossible launches and pointers are refused before the driver', () => {
    const { handle } = kernel('fill_strided');
    const memory = native.allocate(device, 64);
    const launch = (threads: number, grid: number, reach: number, shared = 0) =>
      codeOf(() =>
        native.submit(
          stream,
          commands((c) =>
            c
              .launch(handle, grid, 1, 1, threads, shared)
              .pointer({ memory, offset: 0, bytes: reach })
              .shape([16])
              .strides([1])
              .u32(7)
              .i32(4)
              .end(),
          ),
        ),
      );
    expect(launch(256, 1, 64)).toBeUndefined();
    expect(launch(2048, 1, 64)).toBe('LOWRANK_BAD_COMMANDS');
    expect(launch(256, 0, 64)).toBe('LOWRANK_BAD_COMMANDS');
    expect(launch(256, 1, 65)).toBe('LOWRANK_OUT_OF_BOUNDS');
    expect(launch(256, 1, 64, 1 << 20)).toBe('LOWRANK_BAD_COMMANDS');
  });
  test("too few parameters reach the caller as the driver's error", () => {
    const { handle } = kernel('fill_strided');
    expect(
      codeOf(() =>
        native.submit(
          stream,
          commands((c) => c.launch(handle, 1, 1, 1, 32).u32(1).end()),
        ),
      ),
    ).toBe('CUDA_ERROR_INVALID_VALUE');
  });
  test('a fault names the launches that may have made it, ends the device, and a new one works', async () => {
    const { handle } = kernel('fill_strided');
    const memory = native.allocate(device, 64);
    const list = commands((c) =>
      c
        .launch(handle, 1, 1, 1, 32)
        .pointer({ memory, offset: 0, bytes: 64 })
        .shape([16])
        .strides([1])
        .u32(7)
        .i32(4)
        .end(),
    );
    failWith('cuEventSynchronize=700');
    native.submit(stream, list);
    await expect(native.synchronize(stream)).rejects.toThrow(
      /CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered: the fault lies in one of: fill_strided/,
    );
    reset();
    expect(() => native.submit(stream, list)).toThrow(
      /the device was lost: CUDA_ERROR_ILLEGAL_ADDRESS after one of: fill_strided/,
    );
    native.closeDevice(device);
    ({ device, stream } = openFake(native));
    const again = native.allocate(device, 4);
    native.write(stream, again, 0, bytes(1, 2, 3, 4));
    expect(await native.read(stream, again, 0, 4)).toEqual(bytes(1, 2, 3, 4));
  });
});

describe('recording', () => {
  test('nothing runs while it is recorded; each launch repeats it', async () => {
    const memory = native.allocate(device, 4);
    native.write(stream, memory, 0, bytes(0, 0, 0, 0));
    native.captureBegin(stream);
    native.submit(
      stream,
      commands((c) => c.fill({ memory, offset: 0, bytes: 2 }, 5, 1)),
    );
    expect(codeOf(() => native.write(stream, memory, 0, bytes(1)))).toBe('LOWRANK_CAPTURING');
    expect(codeOf(() => native.read(stream, memory, 0, 1))).toBe('LOWRANK_CAPTURING');
    expect(codeOf(() => native.synchronize(stream))).toBe('LOWRANK_CAPTURING');
    expect(codeOf(() => native.captureBegin(stream))).toBe('LOWRANK_CAPTURING');
    expect(codeOf(() => native.release(stream))).toBe('LOWRANK_CAPTURING');
    const graph = native.captureEnd(stream, 'step');
    expect(graph.nodes).toBe(1);
    expect(await native.read(stream, memory, 0, 4)).toEqual(bytes(0, 0, 0, 0));
    native.graphLaunch(graph.handle, stream);
    expect(await native.read(stream, memory, 0, 4)).toEqual(bytes(5, 5, 0, 0));
    native.release(graph.handle);
    expect(codeOf(() => native.graphLaunch(graph.handle, stream))).toBe('LOWRANK_BAD_HANDLE');
    expect(codeOf(() => native.captureEnd(stream, 'x'))).toBe('LOWRANK_CAPTURING');
  });
  test('a recording that fails leaves the stream usable', async () => {
    native.captureBegin(stream);
    failWith('cuGraphInstantiateWithFlags=2');
    expect(codeOf(() => native.captureEnd(stream, 'step'))).toBe('CUDA_ERROR_OUT_OF_MEMORY');
    reset();
    native.captureBegin(stream);
    native.captureAbort(stream);
    await native.synchronize(stream);
  });
});

describe('every call of the driver may fail', () => {
  const symbols = [
    'cuMemAlloc_v2',
    'cuMemHostAlloc',
    'cuMemcpyHtoDAsync_v2',
    'cuMemcpyDtoHAsync_v2',
    'cuEventCreate',
    'cuEventRecord',
    'cuEventSynchronize',
    'cuLaunchKernel',
    'cuLaunchKernelEx',
    'cuModuleLoadData',
    'cuModuleGetFunction',
    'cuFuncGetAttribute',
    'cublasLtMatmul',
    'cuCtxSetCurrent',
    'cuStreamCreateWithPriority',
    'cublasLtCreate',
    'cuMemsetD32Async',
    'cuMemcpyDtoDAsync_v2',
  ];
  test.each(symbols)('%s: an error with its name, no leak, and the next run works', async (symbol) => {
    const work = async () => {
      const backend = await cudaBackend();
      try {
        const n = 600;
        const view = (count: number, dtype: View['dtype'] = 'f32'): View => ({
          buffer: backend.memory.allocate(count * 4),
          byteOffset: 0,
          dtype,
          shape: [count],
          strides: contiguousStrides([count]),
        });
        const [x, y, z] = [view(n), view(n), view(n)];
        backend.memory.write(x.buffer, 0, new Uint8Array(n * 4));
        backend.primitives.fill({ inputs: {}, outputs: { y }, attrs: { shape: [n], dtype: 'f32', value: 2 } });
        backend.primitives.unary({ inputs: { x: y }, outputs: { y: x }, attrs: { op: 'square' } });
        const square = (v: View): View => ({ ...v, shape: [20, 20], strides: [20, 1] });
        backend.primitives.matmul({ inputs: { a: square(x), b: square(y) }, outputs: { y: square(z) }, attrs: {} });
        backend.primitives.copy({ inputs: { x: z }, outputs: { y: x }, attrs: {} });
        const read = new Float32Array((await backend.memory.read(x.buffer, 0, 4)).buffer);
        for (const v of [x, y, z]) backend.memory.release(v.buffer);
        return read[0];
      } finally {
        await backend.close();
      }
    };
    failWith(`${symbol}=1`);
    if (symbol === 'cuLaunchKernelEx') process.env.FAKE_CUDA_CAPABILITY = '90';
    await expect(work()).rejects.toThrow(/CUDA_ERROR_INVALID_VALUE|CUBLAS_STATUS_NOT_INITIALIZED|cuBLASLt/);
    reset();
    expect(await work()).toBe(160);
  });
});
