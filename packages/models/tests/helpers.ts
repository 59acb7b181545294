import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { cpuBackend } from '@lowrank/backend-cpu';
import { bytesSource, openSafetensors } from '@lowrank/formats';
import { Device } from '@lowrank/tensor';
import { afterAll, afterEach, beforeAll, expect } from 'vitest';
import { blobFiles, type ModelFiles } from '../src/index.ts';

export const fixtures = join(import.meta.dirname, '../../../fixtures');

/** A CPU device for every test of a file; after each test nothing may be left on it. */
export function useDevice(threads?: number): { readonly device: Device } {
  const holder = {} as { device: Device };
  beforeAll(async () => {
    holder.device = new Device(await cpuBackend(threads ? { threads } : {}));
  });
  afterEach(() => expect(holder.device.memory().live, 'bytes left on the device').toBe(0));
  afterAll(() => holder.device.close());
  return holder;
}

export function readJsonFile<T = Record<string, unknown>>(...path: string[]): T {
  return JSON.parse(readFileSync(join(fixtures, ...path), 'utf8')) as T;
}

/** Every tensor of a recorded file, by name. */
export async function readVectors(
  ...path: string[]
): Promise<Map<string, { shape: readonly number[]; data: Float32Array | Int32Array }>> {
  const file = await openSafetensors(bytesSource(new Uint8Array(readFileSync(join(fixtures, ...path)))));
  const out = new Map<string, { shape: readonly number[]; data: Float32Array | Int32Array }>();
  for (const { name, shape, dtype } of file.tensors.values()) {
    const bytes = (await file.read(name)).slice();
    out.set(name, { shape, data: dtype === 'I32' ? new Int32Array(bytes.buffer) : new Float32Array(bytes.buffer) });
  }
  return out;
}

/** A family's folder in memory, with some of its files replaced or (undefined) left out. */
export function familyFiles(name: string, replaced: Record<string, Uint8Array | string | undefined> = {}): ModelFiles {
  const files: Record<string, Uint8Array | string | undefined> = {
    'config.json': readFileSync(join(fixtures, 'families', name, 'config.json')),
    'model.safetensors': readFileSync(join(fixtures, 'families', name, 'model.safetensors')),
    ...replaced,
  };
  const entries = Object.entries(files).filter(([, data]) => data !== undefined);
  return blobFiles(
    entries.map(
      ([file, data]) =>
        [file, typeof data === 'string' ? new TextEncoder().encode(data) : new Uint8Array(data!)] as const,
    ),
    name,
  );
}

export function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  expect(a.length).toBe(b.length);
  let worst = 0;
  for (let i = 0; i < a.length; i++) {
    const d = Math.abs(a[i]! - b[i]!);
    if (!(d <= worst)) worst = d;
  }
  return worst;
}
