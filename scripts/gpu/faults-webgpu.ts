/**
 * Faults on a real device: `oom` takes memory until there is no more and prints what the backend says, then works on;
 * `exit` and `throw` end the process with work in flight.
 */
import { webgpuBackend } from '../../packages/backend-webgpu/src/index.ts';

const [how] = process.argv.slice(2);
const b = await webgpuBackend();
if (how === 'oom') {
  const most = Math.min(b.caps.limits.maxBufferBytes, 2 ** 31);
  const held = [];
  let said = '';
  while (!said && held.length < 1000) {
    try {
      held.push(b.memory.allocate(most));
      await b.synchronize();
    } catch (error) {
      said = String(error);
    }
  }
  for (const buffer of held) b.memory.release(buffer);
  const x = { dtype: 'f32', shape: [64], strides: [1], buffer: b.memory.allocate(256), byteOffset: 0 } as const;
  b.primitives.fill({ inputs: {}, outputs: { y: x }, attrs: { shape: [64], dtype: 'f32', value: 3 } });
  const [first] = new Float32Array(Uint8Array.from(await b.memory.read(x.buffer, 0, 256)).buffer);
  const [asked, fits] = [/asked (\d+) bytes/, /; (\d+) more would fit/].map((part) => Number(part.exec(said)?.[1]));
  const ok = first === 3 && fits! < asked!;
  const name = 'WebGPU: out of memory says what would fit, and a smaller request works';
  console.log(JSON.stringify({ name, ok, buffers: held.length, bytes: held.length * most, said }));
  await b.close();
} else {
  // LOWRANK_SMALL: a device in software does what was enqueued before it ends.
  const size = process.env.LOWRANK_SMALL ? 2 ** 10 : 2 ** 20;
  const x = { dtype: 'f32', shape: [size], strides: [1], buffer: b.memory.allocate(4 * size), byteOffset: 0 } as const;
  for (let i = 0; i < 1000; i++) b.primitives.unary({ inputs: { x }, outputs: { y: x }, attrs: { op: 'sin' } });
  void b.memory.read(x.buffer, 0, 64).catch(() => {});
  console.log('enqueued');
  if (how === 'throw') throw new Error('on purpose');
  process.exit(0);
}
