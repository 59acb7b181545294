/** Runs in the page that browser.test.ts opens: a product on the backend, its largest error, and what the device says of itself. */
import { specOf, type View } from '@lowrank/kernels';
import { type CpuOptions, cpuBackend } from '../src/index.ts';

export interface PageResult {
  readonly device: string;
  readonly worst: number;
}

async function product(options: CpuOptions): Promise<PageResult> {
  const backend = await cpuBackend({ ...options, splitFrom: 0 });
  const [m, n, k] = [67, 130, 257];
  const make = (shape: number[], f: (i: number) => number): { view: View; data: Float32Array } => {
    const data = Float32Array.from({ length: shape[0]! * shape[1]! }, (_, i) => f(i));
    const buffer = backend.memory.allocate(data.byteLength);
    backend.memory.write(buffer, 0, new Uint8Array(data.buffer));
    return { view: { ...specOf(shape, 'f32'), buffer, byteOffset: 0 }, data };
  };
  const a = make([m, k], Math.sin);
  const b = make([k, n], Math.cos);
  const y = make([m, n], () => 0);
  backend.primitives.matmul({ inputs: { a: a.view, b: b.view }, outputs: { y: y.view }, attrs: {} });
  const out = new Float32Array((await backend.memory.read(y.view.buffer, 0, m * n * 4)).buffer);
  let worst = 0;
  for (let i = 0; i < m; i++)
    for (let j = 0; j < n; j++) {
      let sum = 0;
      for (let l = 0; l < k; l++) sum += a.data[i * k + l]! * b.data[l * n + j]!;
      worst = Math.max(worst, Math.abs(sum - out[i * n + j]!));
    }
  await backend.close();
  return { device: backend.caps.device, worst };
}

Object.assign(globalThis, { product });
