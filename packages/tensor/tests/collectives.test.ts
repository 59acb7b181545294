import { referenceBackend } from '@lowrank/testkit';
import { expect, test } from 'vitest';
import {
  type Backend,
  type CollectiveGroup,
  contiguousStrides,
  counting,
  type DType,
  nullBackend,
  tracing,
  type View,
  validating,
} from '../src/index.ts';

const view = (shape: number[], dtype: DType = 'f32', buffer = { byteLength: 1 << 20 }, byteOffset = 0): View => ({
  buffer,
  byteOffset,
  dtype,
  shape,
  strides: contiguousStrides(shape),
});
const joined = (backend: Backend, rank = 1, size = 3) =>
  backend.collectives!.join({ rank, size, id: backend.collectives!.createId() });
const call = (x: View, y: View, attrs: object = {}) => ({ inputs: { x }, outputs: { y }, attrs }) as never;

test('decorators see collectives as they see kernels; an oracle is not asked', async () => {
  const events: string[] = [];
  const { backend, counts } = counting(tracing(nullBackend(), (e) => events.push(`${e.op} ${e.outputs.y}`)));
  const group = await joined(backend);
  group.ops.allReduce(call(view([8]), view([8]), { op: 'sum' }));
  group.ops.allGather(call(view([2, 4]), view([6, 4])));
  expect([group.rank, group.size]).toEqual([1, 3]);
  expect(events).toEqual(['allReduce [8] f32', 'allGather [6,4] f32']);
  expect([...counts].map(([op, { calls }]) => [op, calls])).toEqual([
    ['allReduce', 1],
    ['allGather', 1],
  ]);
  const watched = validating(nullBackend(), referenceBackend());
  (await joined(watched.backend)).ops.broadcast(call(view([8]), view([8]), { root: 2 }));
  expect(await watched.settle()).toEqual([]);
  await group.leave();
});

test('the null backend has collectives where the backend that it is like has them, and takes no bytes for them', async () => {
  const like = nullBackend();
  expect(nullBackend(like).collectives).toBeDefined();
  expect(nullBackend(referenceBackend()).collectives).toBeUndefined();
  (await joined(like)).ops.reduceScatter(call(view([6]), view([2]), { op: 'max' }));
  expect(like.memory.reservedBytes()).toBe(0);
});

const buffer = { byteLength: 4096 };
test.each<[string, keyof CollectiveGroup['ops'], View, View, object]>([
  ['allReduce: x and y have one dtype: x [4] f32, y [4] f16, 3 ranks', 'allReduce', view([4]), view([4], 'f16'), {}],
  ['allReduce: the dtype does not travel: x [4] u8', 'allReduce', view([4], 'u8'), view([4], 'u8'), { op: 'sum' }],
  ['allReduce: x and y have one shape: x [4] f32, y [2,2] f32', 'allReduce', view([4]), view([2, 2]), { op: 'sum' }],
  ['allReduce: unknown reduction: min. Known: sum, max, mean', 'allReduce', view([4]), view([4]), { op: 'min' }],
  ['allReduce: a mean is of floats', 'allReduce', view([4], 'i32'), view([4], 'i32'), { op: 'mean' }],
  ['allReduce: x and y are contiguous', 'allReduce', { ...view([4, 4]), strides: [1, 4] }, view([4, 4]), { op: 'sum' }],
  ["allGather: y is as long as all ranks' parts: x [4] f32, y [8] f32", 'allGather', view([4]), view([8]), {}],
  ["allGather: y is as long as all ranks' parts", 'allGather', view([]), view([3]), {}],
  ["reduceScatter: x is as long as all ranks' parts", 'reduceScatter', view([7]), view([2]), { op: 'sum' }],
  ['broadcast: root is a rank of the group: root 3 of 3', 'broadcast', view([4]), view([4]), { root: 3 }],
  ['allReduce: x and y overlap', 'allReduce', view([4], 'f32', buffer), view([4], 'f32', buffer, 8), { op: 'sum' }],
  ['allGather: x and y overlap', 'allGather', view([4], 'f32', buffer), view([12], 'f32', buffer), {}],
])('%s', async (message, name, x, y, attrs) => {
  const group = await joined(nullBackend());
  expect(() => group.ops[name](call(x, y, attrs))).toThrow(message);
});

test('in place is allowed where it is meant', async () => {
  const { ops } = await joined(nullBackend());
  const whole = view([12], 'f32', buffer);
  const own = view([4], 'f32', buffer, 16);
  ops.allReduce(call(whole, whole, { op: 'sum' }));
  ops.allGather(call(own, whole));
  ops.reduceScatter(call(whole, own, { op: 'sum' }));
  ops.broadcast(call(whole, whole, { root: 0 }));
  ops.broadcast(call(whole, view([12], 'f32', buffer, 48), { root: 0 }));
});

test.each([
  [{ rank: 0, size: 0 }, 'join: a group has one rank or more: size 0'],
  [{ rank: 3, size: 3 }, 'join: a rank lies below the size: rank 3 of 3'],
  [{ rank: 0, size: 1, timeoutMs: 0.5 }, 'join: the timeout is milliseconds, a whole number: timeoutMs 0.5'],
])('%j cannot join', async (place, message) => {
  await expect(nullBackend().collectives!.join({ ...place, id: new Uint8Array(0) })).rejects.toThrow(message);
});
