import type { Backend } from '@lowrank/kernels';
import { type Case, cases } from '@lowrank/kernels/testing';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { cpuBackend } from '../src/index.ts';
import { opNames, runCase } from './run-case.ts';

/** Conformance compares values with references; here every case runs whole on one thread and cut into as many pieces as can be on three. */
const builds = ['relaxed', 'plain'] as const;
const one: Record<string, Backend> = {};
const three: Record<string, Backend> = {};

beforeAll(async () => {
  for (const simd of builds) {
    one[simd] = await cpuBackend({ simd, threads: 1 });
    three[simd] = await cpuBackend({ simd, threads: 3, splitFrom: 0 });
  }
});
afterAll(async () => {
  for (const b of [...Object.values(one), ...Object.values(three)]) await b.close();
});

test('the threads are there', () => {
  for (const simd of builds) {
    expect(one[simd]!.caps.features).toContain('threads=1');
    expect(three[simd]!.caps.features).toContain('threads=3');
  }
});

describe.each(opNames)('%s', (name) => {
  const list = cases[name] as unknown as readonly Case<never>[];
  test.each(list.map((c) => [c.name, c] as const))('%s: same bits on one thread and on three', async (_, c) => {
    for (const dtype of c.dtypes)
      for (const simd of builds) {
        const whole = await runCase(one[simd]!, name, c, dtype, c.inplace);
        const split = await runCase(three[simd]!, name, c, dtype, c.inplace);
        expect(split, `${dtype}, ${simd}`).toEqual(whole);
      }
  });
});
