import type { Backend, Call, Kernel, Matmul, OpTypes, View } from '@lowrank/kernels';
import { describe, expect, test } from 'vitest';
import { Ledger } from '../src/bench.ts';
import { mismatch } from '../src/compare.ts';
import { referenceBackend } from '../src/reference-backend.ts';
import { judge } from '../src/skips.ts';
import { ops, runTrial, type Trial, trialsOf } from '../src/trial.ts';

/** The suite itself: it must find what it claims to find. */
const trialOf = (id: string): Trial => {
  const trial = ops.flatMap((op) => trialsOf(op)).find((t) => t.id === id);
  if (!trial) throw new Error(`no trial ${id}`);
  return trial;
};

/** The reference backend with one primitive spoiled: `after` runs behind the right kernel. */
function spoiled<O extends OpTypes>(
  name: string,
  after: (call: Call<O>, bytes: (view: View) => Float32Array) => void,
): Backend {
  const backend = referenceBackend();
  const right = (backend.primitives as unknown as Record<string, Kernel<O>>)[name]!;
  const run: Kernel<O> = (call) => {
    right(call);
    after(
      call,
      (view) => new Float32Array((view.buffer as unknown as { bytes: Uint8Array }).bytes.buffer, view.byteOffset),
    );
  };
  return { ...backend, primitives: { ...backend.primitives, [name]: run } };
}

async function outcome(backend: Backend, id: string): Promise<string> {
  const ledger = new Ledger(backend.memory);
  try {
    const result = await runTrial(backend, ledger, trialOf(id));
    return 'refused' in result ? `refused: ${result.refused}` : 'passed';
  } catch (error) {
    return (error as Error).message;
  } finally {
    expect(ledger.live).toBe(0);
  }
}

describe('a trial', () => {
  test('passes on the reference', async () => {
    expect(await outcome(referenceBackend(), 'matmul 7×67×127 f32')).toBe('passed');
  });
  test('finds one wrong element', async () => {
    const backend = spoiled<Matmul>('matmul', ({ outputs }, bytes) => {
      bytes(outputs.y)[127 + 3]! += 1e-3;
    });
    expect(await outcome(backend, 'matmul 7×67×127 f32')).toMatch(
      /y: 1 of 889 elements of \[7,127\] differ; first at \[1,3\]/,
    );
  });
  test('finds products in lower precision', async () => {
    const backend = spoiled<Matmul>('matmul', ({ outputs }, bytes) => {
      const y = bytes(outputs.y);
      for (let i = 0; i < 7 * 127; i++) y[i]! *= 1 + 2 ** -12 * (i % 2 ? 1 : -1); // what TF32 would do
    });
    expect(await outcome(backend, 'matmul 7×67×127 f32')).toMatch(/differ/);
  });
  test('finds an element that was never written', async () => {
    const backend = spoiled<Matmul>('matmul', ({ outputs }, bytes) => {
      bytes(outputs.y)[888] = NaN;
    });
    expect(await outcome(backend, 'matmul 7×67×127 f32')).toMatch(/got NaN/);
  });
  test('finds a write behind the destination', async () => {
    const backend = spoiled<Matmul>('matmul', ({ outputs }, bytes) => {
      bytes(outputs.y)[889] = 0;
    });
    expect(await outcome(backend, 'matmul 7×67×127 f32')).toMatch(/was written outside the destinations/);
  });
  test('finds a write between the rows of a sliced destination', async () => {
    const backend = spoiled<Matmul>('matmul', ({ outputs }, bytes) => {
      bytes(outputs.y)[31] = 0;
    });
    expect(await outcome(backend, 'matmul into a slice f32')).toMatch(
      /was written outside the destinations, 124 bytes from the start of output y/,
    );
  });
  test('finds a write to an input', async () => {
    const backend = spoiled<Matmul>('matmul', ({ inputs }, bytes) => {
      bytes(inputs.a)[0] = 5;
    });
    expect(await outcome(backend, 'matmul 7×67×127 f32')).toMatch(
      /outside the destinations, 0 bytes from the start of input a/,
    );
  });
  test('finds swallowed NaN and infinity', async () => {
    const backend = spoiled<Matmul>('matmul', ({ outputs }, bytes) => {
      const y = bytes(outputs.y);
      for (let i = 0; i < 9; i++) if (Number.isNaN(y[i])) y[i] = 0;
    });
    expect(await outcome(backend, 'matmul specials f32')).toMatch(/got 0, expected NaN/);
  });
  test('takes a refusal as a refusal', async () => {
    const backend = referenceBackend();
    const softmax = { ...backend.fused.softmax!, accepts: () => ({ refused: 'too wide' }) };
    expect(await outcome({ ...backend, fused: { ...backend.fused, softmax } }, 'softmax one axis f32')).toBe(
      'refused: too wide',
    );
    expect(await outcome(referenceBackend({ fused: false }), 'softmax one axis f32')).toBe(
      'refused: no fused kernel for softmax',
    );
  });
  test('asks for no arithmetic in a dtype that the device only stores', async () => {
    const backend = referenceBackend();
    const caps = {
      ...backend.caps,
      dtypes: { ...backend.caps.dtypes, bf16: { store: true, compute: false, fastMatmul: false } },
    };
    expect(await outcome({ ...backend, caps }, 'matmul 1×1×1 bf16')).toBe(
      'refused: the device does not compute in bf16',
    );
    expect(await outcome({ ...backend, caps }, 'copy n=33 bf16')).toBe('passed');
  });
});

describe('judging a skip', () => {
  const skip = { reason: 'known', tests: 'matmul' };
  test('one that fails is skipped with its reason', async () =>
    expect(await judge('matmul x', skip, () => Promise.reject(new Error('no')))).toBe('known'));
  test('one that passes fails', async () =>
    await expect(judge('matmul x', skip, async () => undefined)).rejects.toThrow('passes now: matmul x'));
  test('a refusal keeps its own reason', async () =>
    expect(await judge('matmul x', skip, async () => ({ refused: 'odd' }))).toBe('odd'));
  test('failures off the list stay failures', async () =>
    await expect(judge('x', undefined, () => Promise.reject(new Error('no')))).rejects.toThrow('no'));
});

describe('comparing', () => {
  const array = (dtype: 'f32' | 'f16' | 'bf16', ...data: number[]) => ({
    dtype,
    shape: [data.length],
    data: Float64Array.from(data),
  });

  test('exact means the same bits after rounding, signs of zero included', () => {
    expect(mismatch(array('f32', Math.fround(0.1)), array('f32', 0.1), 'exact')).toBeUndefined();
    expect(mismatch(array('f32', 0), array('f32', -0), 'exact')).toMatch('got 0, expected -0');
    expect(mismatch(array('f32', NaN), array('f32', NaN), 'exact')).toBeUndefined();
    expect(mismatch(array('f32', 1 + 2 ** -23), array('f32', 1), 'exact')).toBeDefined();
  });
  test('a tolerance of nothing is one rounding', () => {
    expect(mismatch(array('bf16', 1), array('bf16', 1 + 2 ** -8), {})).toBeUndefined();
    expect(mismatch(array('bf16', 1), array('bf16', 1 + 2 ** -8 + 2 ** -15), {})).toBeDefined();
    expect(mismatch(array('f16', 1), array('f16', 1 + 2 ** -11), {})).toBeUndefined();
    expect(mismatch(array('f32', 1), array('f32', 1 + 2 ** -23), {})).toBeDefined();
  });
  test('row and all measure by the largest finite number', () => {
    const expected = { dtype: 'f32', shape: [2, 2], data: Float64Array.of(100, 0, 1, 0) } as const;
    const actual = { ...expected, data: Float64Array.of(100, 0.5, 1, 0) };
    expect(mismatch(actual, expected, { row: 0.01 })).toBeUndefined();
    expect(mismatch({ ...expected, data: Float64Array.of(100, 0, 1, 0.5) }, expected, { row: 0.01 })).toMatch('[1,1]');
    expect(mismatch({ ...expected, data: Float64Array.of(100, 0, 1, 0.5) }, expected, { all: 0.01 })).toBeUndefined();
  });
  test('infinities and NaN must be where the reference has them', () => {
    expect(mismatch(array('f32', Infinity), array('f32', Infinity), { abs: 1 })).toBeUndefined();
    expect(mismatch(array('f32', -Infinity), array('f32', Infinity), { abs: 1 })).toBeDefined();
    expect(mismatch(array('f32', 3), array('f32', Infinity), { abs: 1 })).toBeDefined();
    expect(mismatch(array('f32', Infinity), array('f32', 3), { abs: 1 })).toBeDefined();
    expect(mismatch(array('f32', NaN), array('f32', 3), { abs: 1 })).toBeDefined();
    expect(mismatch(array('f32', 3), array('f32', NaN), { abs: 1 })).toBeDefined();
  });
  test('what overflows the dtype is infinity there', () => {
    expect(mismatch(array('f16', Infinity), array('f16', 7e4), {})).toBeUndefined();
    expect(mismatch(array('f16', 65504), array('f16', 7e4), {})).toBeDefined();
    expect(mismatch(array('f16', 65504), array('f16', 65510), {})).toBeUndefined();
  });
});
