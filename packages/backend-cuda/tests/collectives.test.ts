import { execFileSync, spawn } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Backend, CollectiveGroup } from '@lowrank/tensor';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { cudaBackend } from '../src/index.ts';
import { CommandList } from '../src/runtime/commands.ts';
import { empty, everything, recordedStep } from './support/collective-cases.ts';
import { fakeDriver } from './support/emulated.ts';
import { codeOf, failWith, nativeAddon, openFake, reset } from './support/native.ts';

const native = nativeAddon();
let backend: Backend | undefined;
beforeEach(reset);
afterEach(async () => {
  reset();
  await backend?.close();
  backend = undefined;
});

async function alone(timeoutMs = 60_000): Promise<{ backend: Backend; group: CollectiveGroup }> {
  backend = await cudaBackend();
  const id = backend.collectives!.createId();
  return { backend, group: await backend.collectives!.join({ rank: 0, size: 1, id, timeoutMs }) };
}

const sum = (group: CollectiveGroup, x: ReturnType<typeof empty>) =>
  group.ops.allReduce({ inputs: { x }, outputs: { y: x }, attrs: { op: 'sum' } });
const stick = () => {
  process.env.FAKE_CUDA_NCCL_STUCK = '1';
};

describe('NCCL that is not there', () => {
  test('says what to install, and where it was looked for', async () => {
    backend = await cudaBackend();
    process.env.LOWRANK_NCCL = '/nowhere/libnccl.so.2';
    try {
      expect(() => backend!.collectives!.createId()).toThrow(
        /^createId: NCCL is missing: NCCL was not found \(\/nowhere\/libnccl\.so\.2.*\)\. Install libnccl2 \(or pip install nvidia-nccl-cu12/,
      );
      await expect(backend.collectives!.join({ rank: 0, size: 1, id: new Uint8Array(128) })).rejects.toThrow(
        /^join: NCCL is missing/,
      );
      process.env.LOWRANK_NCCL = 'libm.so.6';
      expect(() => backend!.collectives!.createId()).toThrow(
        'libm.so.6 has no ncclGetVersion: NCCL 2.14 or later is needed',
      );
    } finally {
      process.env.LOWRANK_NCCL = fakeDriver;
    }
    expect(codeOf(() => native.ncclId())).toBe('LOWRANK_NO_NCCL');
  });
});

describe('a group of one', () => {
  test('every op, dtype and size; recorded as eager', async () => {
    const { backend, group } = await alone();
    const reserved = backend.memory.reservedBytes();
    expect(await everything(backend, group, [1, 37, 300_001])).toMatchObject({ wrong: [] });
    const step = await recordedStep(backend, group, 1000);
    expect(step).toMatchObject({ same: true, changed: true });
    await expect(group.leave()).rejects.toThrow(
      'cuda.commLeave: 1 recordings hold ops of the group. Release them first',
    );
    step.release();
    await group.leave();
    expect(backend.memory.reservedBytes()).toBe(reserved);
  });
  test('a group that was left takes no more', async () => {
    const { backend, group } = await alone();
    const x = empty(backend, [4], 'f32');
    await group.leave();
    expect(() => sum(group, x)).toThrow('allReduce: the group was left');
    await expect(group.leave()).rejects.toThrow('leave: the group was left');
    expect(codeOf(() => group.ops.broadcast(null as never))).toMatch(/left/);
    const again = await backend.collectives!.join({ rank: 0, size: 1, id: backend.collectives!.createId() });
    sum(again, x);
    await again.leave();
  });
  test('a closed device takes its groups along', async () => {
    const { backend, group } = await alone();
    await backend.close();
    await expect(group.leave()).rejects.toThrow('cuda: the device was closed');
    await expect(backend.collectives!.join({ rank: 0, size: 1, id: new Uint8Array(128) })).rejects.toThrow('closed');
  });
});

describe('handles', () => {
  test('what is no group, not of this device, not formed or left is refused', async () => {
    const { driver, device, stream } = openFake(native);
    native.loadNccl([fakeDriver]);
    const memory = native.allocate(device, 64);
    const run = (group: number, on = stream, change: object = {}) =>
      codeOf(() => {
        const list = new CommandList();
        const at = { memory, offset: 0 };
        list.collective({ group, kind: 0, dtype: 7, reduction: 0, root: 0, count: 16, x: at, y: at, ...change });
        native.submit(on, list.packed);
      });
    const bad = 'LOWRANK_BAD_HANDLE';
    for (const id of [0, memory, device, Number.NaN]) expect(run(id)).toBe(bad);
    expect(codeOf(() => native.commJoin(device, 1, 1, native.ncclId(), 1000))).toBe('LOWRANK_BAD_ARGUMENT');
    expect(codeOf(() => native.commJoin(device, 0, 1, new Uint8Array(127), 1000))).toBe('LOWRANK_BAD_ARGUMENT');
    expect(codeOf(() => native.commJoin(device, 0, 1, native.ncclId(), 0))).toBe('LOWRANK_BAD_ARGUMENT');
    const group = await native.commJoin(device, 0, 1, native.ncclId(), 1000);
    expect(run(group)).toBeUndefined();
    for (const [change, code] of [
      [{ kind: 4 }, 'LOWRANK_BAD_COMMANDS'],
      [{ dtype: 8 }, 'LOWRANK_BAD_COMMANDS'],
      [{ reduction: 1 }, 'LOWRANK_BAD_COMMANDS'],
      [{ reduction: 4, dtype: 2 }, 'LOWRANK_BAD_COMMANDS'],
      [{ kind: 3, root: 1 }, 'LOWRANK_BAD_COMMANDS'],
      [{ count: 17 }, 'LOWRANK_OUT_OF_BOUNDS'],
      [{ count: -1 }, 'LOWRANK_BAD_ARGUMENT'],
      [{ count: 1.5 }, 'LOWRANK_BAD_ARGUMENT'],
      [{ count: Number.NaN }, 'LOWRANK_BAD_ARGUMENT'],
      [{ count: 1, x: { memory, offset: 2 } }, 'LOWRANK_BAD_COMMANDS'],
      [{ x: { memory: group, offset: 0 } }, bad],
      [{ count: 0 }, undefined],
    ] as const)
      expect(run(group, stream, change)).toBe(code);
    expect(codeOf(() => native.release(group))).toBe(bad);
    const other = native.openDevice(driver, 0);
    expect(run(group, native.streamCreate(other))).toBe(bad);
    native.closeDevice(other);
    const leaving = native.commLeave(group);
    expect(codeOf(() => native.commLeave(group))).toBe('LOWRANK_BAD_ARGUMENT');
    expect(run(group)).toBe(bad);
    await leaving;
    expect(codeOf(() => native.commLeave(group))).toBe(bad);
    expect(native.deviceStatus(device)).toMatchObject({ objects: 2 });
    native.closeDevice(device);
  });
  test('a device that is closed while a group forms or is left', async () => {
    const one = openFake(native);
    const joining = native.commJoin(one.device, 0, 2, native.ncclId(), 60_000);
    native.closeDevice(one.device);
    await expect(joining).rejects.toMatchObject({ code: 'LOWRANK_CLOSED' });
    const two = openFake(native);
    const group = await native.commJoin(two.device, 0, 1, native.ncclId(), 60_000);
    const leaving = native.commLeave(group).catch((error: { code?: string }) => error.code);
    native.closeDevice(two.device);
    expect(await leaving).toBe('LOWRANK_CLOSED');
  });
});

describe('a group that fails', () => {
  test('does not form: the reason is told, and another one forms', async () => {
    backend = await cudaBackend();
    const { collectives } = backend;
    failWith('ncclGetUniqueId=2');
    expect(() => collectives!.createId()).toThrow('ncclGetUniqueId gave internal error');
    failWith('ncclCommInitRankConfig=3');
    const place = { rank: 0, size: 1, id: new Uint8Array(128) };
    await expect(collectives!.join(place)).rejects.toThrow(
      'join: the group did not form: ncclCommInitRankConfig gave internal error',
    );
    reset();
    await expect(collectives!.join(place)).rejects.toThrow('ncclCommInitRankConfig gave invalid argument');
    await expect(collectives!.join({ rank: 0, size: 2, id: collectives!.createId(), timeoutMs: 50 })).rejects.toThrow(
      'join: the group did not form: rank 0 of 2 waited 50 ms for the others to join',
    );
    const group = await collectives!.join({ rank: 0, size: 1, id: collectives!.createId() });
    await group.leave();
  });
  test('an op that is refused is the end of it', async () => {
    const { backend, group } = await alone();
    const x = empty(backend, [4], 'f32');
    failWith('ncclAllReduce=4');
    sum(group, x);
    await expect(backend.synchronize()).rejects.toThrow(
      'allReduce: the group has failed: allReduce gave invalid argument',
    );
    reset();
    sum(group, x);
    await expect(backend.synchronize()).rejects.toThrow('allReduce: the group has failed');
    await expect(group.leave()).rejects.toThrow('leave: the group had failed: allReduce gave invalid argument');
  });
  test('an op that never ends: waits and reads reject, nothing hangs, and the device goes on without the group', async () => {
    const { backend, group } = await alone(200);
    const x = empty(backend, [4], 'f32');
    stick();
    sum(group, x);
    const late = 'the group has failed: rank 0 of 1 waited 200 ms for the others in a collective';
    const read = async () => backend.memory.read(x.buffer, 0, 16);
    const reading = read().catch((error: Error) => error.message);
    await expect(backend.synchronize()).rejects.toThrow(`cuda.synchronize: ${late}`);
    expect(await reading).toContain(`cuda.read: ${late}`);
    // What the collective should have written is not read as if it were there.
    await expect(backend.synchronize()).rejects.toThrow(late);
    sum(group, x);
    await expect(read()).rejects.toThrow(`allReduce: ${late}. See what the other ranks say`);
    await expect(read()).rejects.toThrow(`cuda.read: ${late}`);
    await expect(group.leave()).rejects.toThrow('leave: the group had failed: rank 0 of 1 waited 200 ms');
    reset();
    backend.memory.write(x.buffer, 0, new Uint8Array(16).fill(7));
    expect(await read()).toEqual(new Uint8Array(16).fill(7));
  });
  test('what the library finds by itself is told', async () => {
    const { backend, group } = await alone();
    const x = empty(backend, [4], 'f32');
    stick();
    sum(group, x);
    const waiting = backend.synchronize();
    failWith('ncclAsync=6');
    await expect(waiting).rejects.toThrow(
      'the group has failed: a collective gave remote process exited or there was a network error',
    );
  });
  test('a recording with its ops is refused; it is let go before the group', async () => {
    const { backend, group } = await alone(200);
    const x = empty(backend, [4], 'f32');
    backend.memory.write(x.buffer, 0, new Uint8Array(16));
    backend.record!.begin();
    sum(group, x);
    const recording = backend.record!.end();
    recording.replay();
    await backend.synchronize();
    stick();
    sum(group, x);
    await expect(backend.synchronize()).rejects.toThrow('the group has failed');
    expect(() => recording.replay()).toThrow('cuda.graphLaunch: the group has failed: rank 0 of 1 waited 200 ms');
    await expect(group.leave()).rejects.toThrow('Release them first');
    recording.release();
    await expect(group.leave()).rejects.toThrow('leave: the group had failed');
  });
  test('closing waits for nobody, with a recording or an op that never ends', async () => {
    const { backend, group } = await alone();
    const x = empty(backend, [4], 'f32');
    backend.memory.write(x.buffer, 0, new Uint8Array(16));
    backend.record!.begin();
    sum(group, x);
    backend.record!.end().replay();
    stick();
    sum(group, x);
    const waiting = backend.synchronize().catch((error: { code?: string }) => error.code);
    await backend.close();
    expect(['LOWRANK_CLOSED', 'LOWRANK_GROUP_FAILED']).toContain(await waiting);
  });
});

test('a process ends in any state of a group', { timeout: 60_000 }, () => {
  const code = (body: string) => `
    import { cudaBackend } from '@lowrank/backend-cuda';
    const backend = await cudaBackend();
    const join = (size) => backend.collectives.join({ rank: 0, size, id: backend.collectives.createId() });
    const sum = (group) => {
      const x = { buffer: backend.memory.allocate(64), byteOffset: 0, dtype: 'f32', shape: [4], strides: [1] };
      group.ops.allReduce({ inputs: { x }, outputs: { y: x }, attrs: { op: 'sum' } });
      return backend.synchronize();
    };
    ${body}`;
  for (const body of [
    `await sum(await join(1)); console.log('done');`,
    `join(2); setTimeout(() => { console.log('done'); process.exit(); }, 50);`,
    `const group = await join(1);
     process.env.FAKE_CUDA_NCCL_STUCK = '1';
     sum(group);
     setTimeout(() => { console.log('done'); process.exit(); }, 50);`,
  ])
    expect(
      execFileSync(process.execPath, ['--conditions=source', '--input-type=module', '-e', code(body)], {
        encoding: 'utf8',
        cwd: dirname(fileURLToPath(import.meta.url)),
        timeout: 30_000,
      }),
    ).toBe('done\n');
});

test('two processes: scripts/gpu/collectives.ts on the driver without a GPU', { timeout: 240_000 }, async () => {
  const script = join(dirname(fileURLToPath(import.meta.url)), '../../../scripts/gpu/collectives.ts');
  const child = spawn(process.execPath, ['--conditions=source', script, '', '2', 'one'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let text = '';
  let errors = '';
  child.stdout.setEncoding('utf8').on('data', (part: string) => {
    text += part;
  });
  child.stderr.setEncoding('utf8').on('data', (part: string) => {
    errors += part;
  });
  const code = await new Promise((done) => child.on('close', done));
  const failed = text.split('\n').filter((l) => l.includes('"status":"failed"'));
  expect({ code, failed, errors }).toEqual({ code: 0, failed: [], errors: '' });
  expect(text.match(/"status":"passed"/g)).toHaveLength(8);
});

test('lowrank info names the library and its file', () => {
  const cli = join(dirname(fileURLToPath(import.meta.url)), '../../cli/src/main.ts');
  const info = (env: Record<string, string>) =>
    JSON.parse(
      execFileSync(process.execPath, ['--conditions=source', cli, 'info', '--json'], {
        encoding: 'utf8',
        env: { ...process.env, ...env },
      }),
    ) as { nccl?: string };
  expect(info({}).nccl).toBe(`2.27.3 (${fakeDriver})`);
  expect(info({ LOWRANK_NCCL: '/nowhere/libnccl.so.2' }).nccl).toMatch(/^not here: NCCL was not found \(\/nowhere/);
  expect(info({ LOWRANK_CUDA_DRIVER: '/nowhere' }).nccl).toBeUndefined();
});
