import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { cpuBackend } from '@lowrank/backend-cpu';
import { bytesSource, openSafetensors } from '@lowrank/formats';
import { CausalLm, readConfig } from '@lowrank/models';
import { DenseWeight, Device, decode, keep, type Tensor } from '@lowrank/tensor';
import { afterAll, afterEach, beforeAll, expect } from 'vitest';

export const fixtures = join(import.meta.dirname, '../../../fixtures');

/** A device for a test file; every test must give back every byte. */
export function useDevice(): { readonly device: Device } {
  const at = {} as { device: Device };
  beforeAll(async () => {
    at.device = new Device(await cpuBackend());
  });
  afterEach(() => expect(at.device.memory().live, 'leaked bytes').toBe(0));
  afterAll(() => at.device.close());
  return at;
}

export async function openTensors(path: string) {
  return openSafetensors(bytesSource(new Uint8Array(readFileSync(path)), path));
}

/** A tiny model of fixtures/families. */
export async function loadFamily(device: Device, name: string): Promise<CausalLm> {
  const dir = join(fixtures, name);
  const file = await openTensors(join(dir, 'model.safetensors'));
  const read = async (n: string): Promise<Tensor> =>
    keep(device.fromBytes(await file.read(n), 'f32', file.tensors.get(n)!.shape));
  return CausalLm.create(device, readConfig(JSON.parse(readFileSync(join(dir, 'config.json'), 'utf8'))), {
    linear: async (n) => new DenseWeight(await read(n)),
    tensor: read,
  });
}

/** Recorded f32 numbers by name. */
export async function recorded(
  path: string,
): Promise<{ has(name: string): boolean; f32(name: string): Promise<Float32Array>; names: string[] }> {
  const file = await openTensors(path);
  return {
    has: (n) => file.tensors.has(n),
    names: [...file.tensors.keys()],
    f32: async (n) => decode(new Uint8Array(await file.read(n)), 'f32') as Float32Array,
  };
}

export function relative(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let diff = 0;
  let norm = 0;
  for (let i = 0; i < b.length; i++) {
    diff += (a[i]! - b[i]!) ** 2;
    norm += b[i]! ** 2;
  }
  return Math.sqrt(diff / Math.max(norm, 1e-30));
}
