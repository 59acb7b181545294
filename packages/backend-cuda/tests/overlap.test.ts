import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { contiguousStrides, type View } from '@lowrank/kernels';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { cudaBackend } from '../src/index.ts';
import { emulate } from './support/emulated.ts';
import { failWith, reset } from './support/native.ts';

const kernels = join(dirname(fileURLToPath(import.meta.url)), '../../../kernels');
const sources = readdirSync(kernels, { recursive: true, encoding: 'utf8' }).filter((path) => path.endsWith('.cu'));

// A launch may begin while the kernel before it ends: one that forgot to wait would read what is not written yet, now and then.
describe('every kernel waits for the one before it', () => {
  test.each(sources)('%s', (path) => {
    const text = readFileSync(join(kernels, path), 'utf8').replaceAll(/[ \t]*\\\n/g, '\n');
    // Bodies follow the parameters, which hold no braces.
    const bodies = [...text.matchAll(/\bKERNEL\b[^{;]*\{\s*([\s\S]*?;)/g)];
    expect(bodies.length).toBe([...text.matchAll(/^\s*KERNEL\b/gm)].length);
    expect(bodies.length).toBeGreaterThan(0);
    for (const [whole, first] of bodies) expect(first, whole.slice(0, 200)).toBe('afterPrevious();');
  });
});

describe('LOWRANK_CUDA_OVERLAP', () => {
  beforeEach(() => {
    emulate();
    reset();
  });
  afterEach(() => {
    reset();
    delete process.env.LOWRANK_CUDA_OVERLAP;
  });
  async function filled(): Promise<number> {
    const backend = await cudaBackend();
    try {
      const shape = [3];
      const y: View = {
        buffer: backend.memory.allocate(12),
        byteOffset: 0,
        dtype: 'f32',
        shape,
        strides: contiguousStrides(shape),
      };
      backend.primitives.iota({
        inputs: {},
        outputs: { y },
        attrs: { shape, dtype: 'f32', axis: 0, start: 0, step: 1 },
      });
      const read = new Float32Array((await backend.memory.read(y.buffer, 0, 12)).buffer);
      backend.memory.release(y.buffer);
      return read[2]!;
    } finally {
      await backend.close();
    }
  }
  test('launches ask for it, unless it is 0', async () => {
    failWith('cuLaunchKernelEx=1');
    process.env.FAKE_CUDA_CAPABILITY = '90';
    await expect(filled()).rejects.toThrow(/CUDA_ERROR_INVALID_VALUE/);
    process.env.LOWRANK_CUDA_OVERLAP = '0';
    expect(await filled()).toBe(2);
  });
  test('not on GPUs before Hopper', async () => {
    failWith('cuLaunchKernelEx=1');
    process.env.FAKE_CUDA_CAPABILITY = '80';
    expect(await filled()).toBe(2);
  });
});
