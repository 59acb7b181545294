import { referenceBackend } from '@lowrank/testkit';
import { afterEach, expect } from 'vitest';
import { Device, type DeviceOptions } from '../../src/index.ts';

const open: Device[] = [];

/** A device over the references. After each test every byte must have come back. */
export function device(options: DeviceOptions & { kernels?: boolean } = {}): Device {
  const d = new Device(referenceBackend({ fused: options.kernels ?? true }), options);
  open.push(d);
  return d;
}

afterEach(() => {
  for (const d of open.splice(0)) expect(d.memory().live, 'leaked bytes').toBe(0);
});

/** ‖a − b‖ / ‖b‖ */
export function relative(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let diff = 0;
  let norm = 0;
  for (let i = 0; i < b.length; i++) {
    diff += (a[i]! - b[i]!) ** 2;
    norm += b[i]! ** 2;
  }
  return Math.sqrt(diff / Math.max(norm, 1e-30));
}
