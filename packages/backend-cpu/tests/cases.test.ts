import type { Backend, DType } from '@lowrank/kernels';
import { leaves } from '@lowrank/kernels';
import { type Case, cases, makeInputs, references } from '@lowrank/kernels/testing';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { cpuBackend } from '../src/index.ts';
import { compare, opNames, runCase } from './run-case.ts';

/** Both builds, on one thread and on two. The threads of a kind must agree bit for bit. */
const kinds = ['relaxed', 'plain'] as const;
const backends: Record<string, Backend> = {};

beforeAll(async () => {
  for (const simd of kinds)
    for (const threads of [1, 2]) backends[`${simd} ${threads}`] = await cpuBackend({ simd, threads });
});
afterAll(async () => {
  for (const b of Object.values(backends)) await b.close();
});

const reference = references as unknown as Record<string, (inputs: unknown, attrs: unknown) => unknown>;

function runs(c: Case<never>): [DType, boolean][] {
  return c.dtypes.flatMap((d): [DType, boolean][] =>
    c.inplace
      ? [
          [d, false],
          [d, true],
        ]
      : [[d, false]],
  );
}

describe.each(opNames)('%s', (name) => {
  const list = cases[name] as unknown as readonly Case<never>[];
  test.each(list.map((c) => [c.name, c] as const))('%s', async (_, c) => {
    for (const [dtype, inplace] of runs(c)) {
      const expected = new Map(
        leaves<{ data: Float64Array }>(reference[name]!(makeInputs(c, dtype), c.attrs(dtype))).map((l) => [
          l.path,
          l.value.data,
        ]),
      );
      for (const simd of kinds) {
        const one = await runCase(backends[`${simd} 1`]!, name, c, dtype, inplace);
        const two = await runCase(backends[`${simd} 2`]!, name, c, dtype, inplace);
        if ('refused' in one || 'refused' in two) {
          expect(two).toEqual(one);
          continue;
        }
        const where = `${dtype}, ${simd}${inplace ? ', in place' : ''}`;
        expect(one.spilt, where).toEqual([]);
        for (const [path, values] of Object.entries(one.values)) {
          const problem = compare(
            values,
            expected.get(path)!,
            one.shapes[path]!,
            one.dtypes[path]!,
            c.tolerance(dtype, path),
          );
          expect(problem, `${path}: ${where}`).toBeUndefined();
          expect(two.bytes[path], `${path}: threads, ${where}`).toEqual(one.bytes[path]);
        }
      }
    }
  });
});
