import type { Backend } from '@lowrank/kernels';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Ledger } from './bench.ts';
import { memorySuite } from './memory-suite.ts';
import { recordSuite } from './record-suite.ts';
import { type Skip, SkipList } from './skips.ts';
import { tensorSuite } from './tensor-suite.ts';
import { ops, runTrial, type Trial, trialsOf } from './trial.ts';

export interface BackendUnderTest {
  readonly name: string;
  readonly create: () => Promise<Backend>;
  readonly skip?: readonly Skip[];
}

/**
 * The conformance suite: memory, every primitive, every fused op that the backend has, determinism, recording, and what
 * `@lowrank/tensor` makes of them (fused against decomposed, forward and backward; replayed against eager; leaks). Each call is compared
 * with the op's f64 reference under the tolerance of its case; bytes outside the destinations must stay as they were. What a kernel
 * refuses, or a device cannot compute in, is a skipped test with the reason.
 */
export function describeBackend({ name, create, skip = [] }: BackendUnderTest): void {
  describe(name, () => {
    const skips = new SkipList(skip, () => ledger.releaseAll());
    let backend: Backend;
    let ledger: Ledger;
    let closed = false;
    beforeAll(async () => {
      backend = await create();
      ledger = new Ledger(backend.memory);
    });
    afterAll(async () => {
      if (!closed) await backend?.close();
    });

    test('says what it can do', () => {
      const { caps } = backend;
      expect(caps.device).not.toBe('');
      expect(caps.dtypes.f32).toMatchObject({ store: true, compute: true });
      expect(caps.dtypes.i32.store && caps.dtypes.u32.store && caps.dtypes.u8.store).toBe(true);
      expect(caps.dtypes[caps.preferredCompute].compute).toBe(true);
      expect(caps.limits.maxBufferBytes).toBeGreaterThanOrEqual(2 ** 20);
    });

    describe('memory', () =>
      memorySuite(
        skips,
        () => backend,
        () => ledger,
      ));

    for (const kind of ['primitive', 'fused'] as const)
      describe(kind === 'primitive' ? 'primitives' : 'fused ops', () => {
        for (const op of ops.filter((o) => o.kind === kind))
          describe(op.name, () => {
            const trials = trialsOf(op);
            for (const trial of trials)
              skips.test(trial.id, trial.title, async () => {
                const outcome = await runTrial(backend, ledger, trial);
                return 'refused' in outcome ? outcome : undefined;
              });
            skips.test(`${op.name} gives the same bits twice`, 'gives the same bits twice', async () => {
              const trial = largest(trials);
              const [first, second] = [await runTrial(backend, ledger, trial), await runTrial(backend, ledger, trial)];
              if ('refused' in first) return first;
              expect(second).toEqual(first);
              return undefined;
            });
          });
      });

    describe('recording', () =>
      recordSuite(
        skips,
        () => backend,
        () => ledger,
      ));

    describe('tensors', () =>
      tensorSuite(
        skips,
        () => backend,
        () => ledger,
      ));

    describe('in the end', () => {
      skips.testThatAllAreUsed();
      test('no byte is leaked', () => expect(ledger.live).toBe(0));
      test('a closed device takes no more calls', async () => {
        await backend.synchronize();
        await backend.close();
        closed = true;
        expect(() => backend.memory.allocate(64)).toThrow();
      });
    });
  });
}

/** The f32 call (or whatever there is) with the largest name-independent size: the sum of its input sizes. */
function largest(trials: readonly Trial[]): Trial {
  const size = (trial: Trial) => {
    let sum = 0;
    const visit = (x: unknown): void => {
      if (x === null || typeof x !== 'object') return;
      if ('shape' in x) sum += (x.shape as number[]).reduce((n, d) => n * d, 1);
      else for (const child of Object.values(x)) visit(child);
    };
    visit(trial.case.inputs);
    return sum;
  };
  const plain = trials.filter((t) => t.over.size === 0);
  const floats = plain.filter((t) => t.dtype === 'f32');
  return (floats.length ? floats : plain).reduce((best, t) => (size(t) > size(best) ? t : best));
}
