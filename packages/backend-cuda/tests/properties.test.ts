import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Native } from '../src/native.ts';
import { CommandList } from '../src/runtime/commands.ts';
import { blas, codeOf, image, joinAlone, nativeAddon, openFake, reset } from './support/native.ts';

const native = nativeAddon();
let device: number;
let stream: number;

beforeEach(() => {
  reset();
  ({ device, stream } = openFake(native));
});
afterEach(() => {
  try {
    native.closeDevice(device);
  } catch {
    // a property closed it
  }
});

/** A product of 4×4 matrices of f32. */
const square = { m: 4, n: 4, k: 4, transA: false, transB: false, typeA: 0, typeB: 0, typeD: 0 } as const;

const junk = (handles: () => readonly number[]) =>
  fc.oneof(
    fc.constantFrom(
      ...[undefined, null, true, '', 'x', {}, [], ['x'], Number.NaN, Infinity, -1, 0.5, 2 ** 31, 2 ** 53, 10n],
    ),
    fc.integer({ min: -2, max: 5000 }),
    fc.double(),
    fc.uint8Array({ maxLength: 64 }),
    fc.nat(40).map((i) => {
      const all = handles();
      return all[i % all.length]!;
    }),
  );

test('any arguments to any function: a value or an Error, never a crash', async () => {
  const memory = native.allocate(device, 256);
  const event = native.eventCreate(device, true);
  const module = native.moduleLoad(device, image, 'm');
  const kernel = native.functionGet(module, 'unary_dense').handle;
  const dead = native.allocate(device, 16);
  native.release(dead);
  native.loadBlas(device, blas());
  const plan = native.matmulPlan(device, { ...square, workspaceBytes: 0 }).handle;
  const group = (await joinAlone(native, device)) ?? dead;
  const names = (Object.keys(native) as (keyof Native)[]).filter(
    (n) => typeof native[n] === 'function' && n !== 'closeDevice',
  );
  const handles = () => [device, stream, memory, event, module, kernel, dead, plan, group];
  // Releasing what the property needs would only make later calls fail; every function still sees every handle.
  const spare = new Set([stream, memory, event, plan]);
  const pending: Promise<unknown>[] = [];
  fc.assert(
    fc.property(fc.constantFrom(...names), fc.array(junk(handles), { maxLength: 6 }), (name, args) => {
      if (name === 'release' && spare.has(args[0] as number)) return;
      if (name === 'commLeave' && args[0] === group) return;
      if ((name === 'allocate' || name === 'hostAllocate') && typeof args[1] === 'number' && args[1] > 1e6) return;
      try {
        const result = (native[name] as (...a: unknown[]) => unknown)(...args);
        if (result instanceof Promise) pending.push(result.catch((e: unknown) => expect(e).toBeInstanceOf(Error)));
        if (name === 'captureBegin') native.captureAbort(stream);
      } catch (error) {
        expect(error).toBeInstanceOf(Error);
      }
    }),
    { numRuns: 20_000 },
  );
  await Promise.all(pending);
}, 120_000);

test('after a device is closed, every function refuses what belonged to it', async () => {
  const memory = native.allocate(device, 256);
  const event = native.eventCreate(device, true);
  const module = native.moduleLoad(device, image, 'm');
  const kernel = native.functionGet(module, 'unary_dense').handle;
  const host = native.hostAllocate(device, 64).handle;
  native.loadBlas(device, blas());
  const plan = native.matmulPlan(device, { ...square, workspaceBytes: 0 }).handle;
  native.captureBegin(stream);
  const graph = native.captureEnd(stream, 'nothing').handle;
  const group = (await joinAlone(native, device)) ?? graph;
  const waiting = native.synchronize(stream).catch((e: unknown) => e);
  native.closeDevice(device);
  const dead = [device, stream, memory, event, module, kernel, host, plan, graph, group];
  const names = (Object.keys(native) as (keyof Native)[]).filter(
    (n) =>
      typeof native[n] === 'function' && !['loadDriver', 'openDevice', 'deviceInfo', 'loadNccl', 'ncclId'].includes(n),
  );
  fc.assert(
    fc.property(
      fc.constantFrom(...names),
      fc.constantFrom(...dead),
      fc.array(
        junk(() => dead),
        { maxLength: 5 },
      ),
      (name, first, rest) => {
        expect(codeOf(() => (native[name] as (...a: unknown[]) => unknown)(first, ...rest))).toMatch(
          /^LOWRANK_BAD_(HANDLE|ARGUMENT)$/,
        );
      },
    ),
    { numRuns: 5_000 },
  );
  // What was under way ended, or says that it could not.
  expect([undefined, 'LOWRANK_CLOSED']).toContain(((await waiting) as { code?: string } | undefined)?.code);
  ({ device, stream } = openFake(native));
});

test('any bytes as a command list: an Error or nothing', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 512 }), (bytes) => {
      try {
        native.submit(stream, bytes);
      } catch (error) {
        expect((error as { code?: string }).code).toMatch(/^LOWRANK_/);
      }
    }),
    { numRuns: 20_000 },
  );
});

test('a list with bytes changed never reaches memory outside its buffers', async () => {
  const memory = native.allocate(device, 4096);
  const guard = native.allocate(device, 4096);
  const filled = new Uint8Array(4096).fill(0x5a);
  native.write(stream, guard, 0, filled);
  const list = new CommandList();
  list.fill({ memory, offset: 64, bytes: 128 }, 1, 4);
  list.copy({ memory, offset: 0, bytes: 64 }, { memory, offset: 1024, bytes: 64 });
  list.record(native.eventCreate(device, false));
  const group = await joinAlone(native, device);
  const [x, y] = [64, 256].map((offset) => ({ memory, offset }));
  if (group !== undefined)
    list.collective({ group, kind: 0, dtype: 7, reduction: 0, root: 0, count: 32, x: x!, y: y! });
  const good = Uint8Array.from(list.packed);
  native.submit(stream, good);
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }), (changes) => {
      const bad = Uint8Array.from(good);
      for (const [at, value] of changes) bad[at] = value;
      try {
        native.submit(stream, bad);
      } catch (error) {
        expect((error as { code?: string }).code).toMatch(/^(LOWRANK_|CUDA_ERROR_INVALID_VALUE)/);
      }
    }),
    { numRuns: 5_000 },
  );
  expect(await native.read(stream, guard, 0, 4096)).toEqual(filled);
});

test('memory behaves as arrays do, through any sequence of calls', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(
        fc.tuple(
          fc.constantFrom('allocate', 'release', 'write', 'fill', 'copy', 'read'),
          fc.nat(1 << 20),
          fc.nat(1 << 20),
          fc.nat(1 << 20),
          fc.nat(255),
        ),
        { maxLength: 40 },
      ),
      async (steps) => {
        const model: { handle: number; bytes: Uint8Array }[] = [];
        const reads: Promise<void>[] = [];
        for (const [step, a, b, c, v] of steps) {
          const one = model[a % (model.length || 1)];
          if (step === 'allocate') {
            const handle = native.allocate(device, 1 + (a % 3000));
            const bytes = new Uint8Array(1 + (a % 3000)).fill(0xff);
            native.write(stream, handle, 0, bytes);
            model.push({ handle, bytes });
          } else if (!one) continue;
          else if (step === 'release') {
            native.release(one.handle);
            model.splice(model.indexOf(one), 1);
          } else {
            const offset = b % one.bytes.length;
            const count = c % (one.bytes.length - offset + 1);
            if (step === 'write') {
              const data = Uint8Array.from({ length: count }, (_, i) => i + v);
              native.write(stream, one.handle, offset, data);
              one.bytes.set(data, offset);
            } else if (step === 'fill') {
              const list = new CommandList();
              list.fill({ memory: one.handle, offset, bytes: count }, v, 1);
              native.submit(stream, list.packed);
              one.bytes.fill(v, offset, offset + count);
            } else if (step === 'copy') {
              const from = model[(a + 1) % model.length]!;
              const n = Math.min(count, from.bytes.length);
              const list = new CommandList();
              list.copy({ memory: one.handle, offset, bytes: n }, { memory: from.handle, offset: 0, bytes: n });
              native.submit(stream, list.packed);
              one.bytes.set(from.bytes.slice(0, n), offset);
            } else {
              const expected = one.bytes.slice(offset, offset + count);
              reads.push(native.read(stream, one.handle, offset, count).then((got) => expect(got).toEqual(expected)));
            }
          }
        }
        await Promise.all(reads);
        for (const { handle } of model) native.release(handle);
        expect(native.deviceStatus(device)).toMatchObject({ deviceBytes: 0, pending: 0 });
      },
    ),
    { numRuns: 300 },
  );
}, 120_000);
