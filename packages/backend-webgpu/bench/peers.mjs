/**
 * Products [n, n] of other libraries on the same device, through the same Dawn: peers.mjs [--size=4096] [--out=FILE]. It runs packed:
 * scripts/gpu/pack.mjs finds the libraries in benchmarks/peers/js. The clock counts: some products one after another, then a wait for the last.
 */
import { appendFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { findAdapter } from '../src/adapter.ts';
import { dawn } from '../src/dawn.ts';
import { round, stamp } from './measure.ts';

const { values } = parseArgs({ options: { size: { type: 'string', default: '4096' }, out: { type: 'string' } } });
const n = Number(values.size);
/** The driver puts the optimised pipeline in place some time after the first call. */
const optimising = n < 4096 ? 0 : 3000;
const gpu = await dawn();
Object.defineProperty(globalThis.navigator ?? globalThis, 'gpu', { value: gpu, configurable: true });
const { info } = await findAdapter({ gpu });
const numbers = (salt) => Float32Array.from({ length: n * n }, (_, i) => Math.sin(i * 0.37 + salt));

function write(line) {
  console.log(JSON.stringify(line));
  const stamped = { kind: 'kernel', ...line, ...stamp(info.description, 'peers'), at: new Date().toISOString() };
  if (values.out && !('failed' in line)) appendFileSync(values.out, `${JSON.stringify(stamped)}\n`);
}

/** `product` starts one; `settle` waits for the last. */
async function measure(name, library, product, settle) {
  product();
  await settle();
  const clock = async (count) => {
    const t = performance.now();
    for (let i = 0; i < count; i++) product();
    await settle();
    return (performance.now() - t) / count;
  };
  const calls = Math.max(1, Math.min(20, Math.ceil(60 / (await clock(2)))));
  for (const end = performance.now() + optimising; performance.now() < end; ) await clock(calls);
  const samples = [];
  for (let i = 0; i < 7; i++) samples.push((await clock(calls)) * 1e3);
  samples.sort((a, b) => a - b);
  write({
    name,
    library,
    microseconds: round(samples[3]),
    fastest: round(samples[0]),
    slowest: round(samples[6]),
    calls,
    timer: 'clock',
    teraflops: round((2 * n ** 3) / samples[3] / 1e6),
  });
}

async function attempt(name, body) {
  try {
    await body();
  } catch (error) {
    write({ name, failed: String(error).slice(0, 400) });
  }
}

await attempt('jax-js matmul', async () => {
  const jax = await import('@jax-js/jax');
  await jax.init('webgpu');
  jax.defaultDevice('webgpu');
  const np = jax.numpy;
  const version = '@jax-js/jax 0.1.25';
  const multiply = jax.jit((x, w) => np.matmul(x, w));
  for (const dtype of ['f32', 'f16'])
    await attempt(`jax-js matmul ${dtype} NN`, async () => {
      const array = (salt) => {
        const x = np.array(numbers(salt)).reshape([n, n]);
        return dtype === 'f16' ? x.astype(np.float16) : x;
      };
      const [x, w] = [array(0), array(1)];
      let last;
      await measure(
        `jax-js matmul ${dtype} NN`,
        version,
        () => {
          last?.dispose();
          last = multiply(x.ref, w.ref);
        },
        () => last.blockUntilReady(),
      );
      for (const t of [x, w, last]) t.dispose();
    });
});

await attempt('tfjs matmul f32 NN', async () => {
  const tf = await import('@tensorflow/tfjs-core');
  await import('@tensorflow/tfjs-backend-webgpu');
  if (!(await tf.setBackend('webgpu'))) throw new Error('its backend webgpu does not start');
  await tf.ready();
  const [x, w] = [tf.tensor2d(numbers(0), [n, n]), tf.tensor2d(numbers(1), [n, n])];
  let last;
  await measure(
    'tfjs matmul f32 NN',
    `@tensorflow/tfjs-backend-webgpu ${tf.version_core}`,
    () => {
      last?.dispose();
      last = tf.matMul(x, w);
    },
    // one number of the result: its kernels run in order
    () => tf.slice(last, [0, 0], [1, 1]).data(),
  );
});
process.exit(0);
