import { type Backend, type FusedName, fusedContracts } from '@lowrank/kernels';
import { type RefArray, references, type Tolerance, unitRoundoff } from '@lowrank/kernels/testing';
import { Device, dropout, type FusedMode, gradients, Scope, type Tensor } from '@lowrank/tensor';
import { expect, test } from 'vitest';
import type { Ledger } from './bench.ts';
import { mismatch } from './compare.ts';
import { disposeTree, type ProgramRun, programRuns, readBack, upload } from './programs.ts';
import type { SkipList } from './skips.ts';
import { TrainStep, type TrainStepOptions } from './train-step.ts';

/** A backend whose raw memory is counted; closing it does nothing, since the suite goes on. */
function borrowed(backend: Backend, ledger: Ledger): Backend {
  const { memory } = backend;
  return {
    ...backend,
    memory: {
      alignment: memory.alignment,
      pooling: memory.pooling,
      allocate: (n) => ledger.allocate(n),
      release: (buffer) => ledger.release(buffer),
      write: (...args) => memory.write(...args),
      read: (...args) => memory.read(...args),
      copy: (...args) => memory.copy(...args),
      reservedBytes: () => memory.reservedBytes(),
    },
    synchronize: () => backend.synchronize(),
    close: async () => {},
  };
}

/** Two paths to one result round at different places. */
function apart(dtype: ProgramRun['dtype']): Tolerance {
  const half = dtype === 'f16' || dtype === 'bf16' ? 8 * unitRoundoff[dtype] : 0;
  return { row: 2e-5, all: 2e-5 + half, abs: 2e-6 };
}

/** The output and the gradients of a program, by name. */
async function evaluate(device: Device, run: ProgramRun): Promise<Map<string, RefArray>> {
  const { inputs, wanted } = upload(device, run.arrays(), run.wrt);
  const out = new Map<string, RefArray>();
  const made: Tensor[] = [];
  {
    using s = new Scope();
    const y = run.run(inputs);
    if (wanted.size) {
      const seed = device.random(y.shape, { seed: 7, dtype: y.dtype as 'f32' });
      for (const g of gradients(y, [...wanted.values()], seed)) made.push(s.detach(g!.contiguous()));
    }
    made.unshift(s.detach(y.detach()));
  }
  const names = ['output', ...[...wanted.keys()].map((path) => `gradient of ${path}`)];
  for (const [i, tensor] of made.entries()) {
    out.set(names[i]!, await readBack(tensor));
    tensor.dispose();
  }
  disposeTree(inputs);
  return out;
}

/** The second layer: what `@lowrank/tensor` makes of the backend. Fused against decomposed, recorded against eager, one seed twice. */
export function tensorSuite(skips: SkipList, backend: () => Backend, ledger: () => Ledger): void {
  /** Runs `body` on a device of its own, which must end empty. */
  async function onDevice<T>(fused: FusedMode, body: (device: Device) => Promise<T>): Promise<T> {
    const before = ledger().live;
    const device = new Device(borrowed(backend(), ledger()), { fused });
    const result = await body(device);
    expect(device.memory().live).toBe(0);
    device.pool.trim();
    expect(ledger().live).toBe(before);
    await device.close();
    return result;
  }
  const check = (id: string, title: string, body: () => Promise<void>) =>
    skips.test(id, title, async () => {
      await body();
      return undefined;
    });

  for (const run of programRuns())
    skips.test(run.id, `fused and decomposed: ${run.title}`, async () => {
      const { caps } = backend();
      if (!caps.dtypes[run.dtype].compute) return { refused: `the device does not compute in ${run.dtype}` };
      const auto = await onDevice('auto', (device) => evaluate(device, run));
      const off = await onDevice('off', (device) => evaluate(device, run));
      for (const [name, expected] of off) {
        const problem = mismatch(auto.get(name)!, expected, apart(run.dtype));
        if (problem) throw new Error(`${run.id}: ${name}: ${problem}`);
      }
      return undefined;
    });

  for (const fused of ['auto', 'off'] as const)
    check(`dropout mask ${fused}`, `dropout masks are the reference's, fused ${fused}`, () =>
      onDevice(fused, async (device) => {
        const shape = [7, 67];
        const seed = { dtype: 'u32', shape: [4], data: Float64Array.of(5, 6, 7, 8) } as const;
        const x: RefArray = { dtype: 'f32', shape, data: new Float64Array(7 * 67).fill(1) };
        const { y: expected } = references.dropout({ x, seed }, { p: 0.4, site: 3 });
        using s = new Scope();
        const y = dropout(
          device.tensor(x.data, { shape, dtype: 'f32' }),
          0.4,
          device.tensor(seed.data, { dtype: 'u32' }),
          3,
        );
        const actual = await readBack(s.detach(y));
        y.dispose();
        expect(Array.from(actual.data, (v) => v !== 0)).toEqual(Array.from(expected.data, (v) => v !== 0));
        expect(mismatch(actual, expected, { rel: 1e-6 })).toBeUndefined();
      }),
    );

  const train = (fused: FusedMode, options: TrainStepOptions, record: boolean) =>
    onDevice(fused, async (device) => {
      const losses: number[] = [];
      const step = new TrainStep(device, 2024, options);
      const recording = record ? device.record(() => step.run()) : undefined;
      for (let n = 1; n <= 4; n++) {
        step.prepare(n);
        if (recording) {
          recording.replay();
          losses.push(await recording.result.item());
        } else {
          const loss = step.run();
          losses.push(await loss.item());
          loss.dispose();
        }
      }
      const bytes = await step.bytes();
      recording?.result.dispose();
      recording?.dispose();
      step[Symbol.dispose]();
      return { losses, bytes };
    });

  for (const fused of ['auto', 'off'] as const)
    for (const p of [0, 0.25]) {
      const title = `fused ${fused}${p ? ', dropout' : ''}`;
      check(
        `train step ${title}`,
        `a train step, ${title}: replayed, repeated and recomputed steps are bit-equal`,
        async () => {
          const eager = await train(fused, { dropout: p }, false);
          expect(eager.losses.every(Number.isFinite)).toBe(true);
          expect(eager.losses[3]).toBeLessThan(eager.losses[0]!);
          expect(await train(fused, { dropout: p }, false)).toEqual(eager);
          expect(await train(fused, { dropout: p }, true)).toEqual(eager);
          expect(await train(fused, { dropout: p, recompute: 'selective' }, false)).toEqual(eager);
          expect(await train(fused, { dropout: p, recompute: 'block' }, true)).toEqual(eager);
        },
      );
    }

  check('train step both', 'losses of fused and decomposed train steps agree', async () => {
    const [auto, off] = [await train('auto', {}, false), await train('off', {}, false)];
    for (const [i, loss] of auto.losses.entries()) expect(Math.abs(loss - off.losses[i]!)).toBeLessThan(1e-4 * loss);
  });

  test('every fused op has a program, or is half of one, or is tested alone', () => {
    const alone: FusedName[] = ['adamw', 'quantize']; // no derivative; in the train step, and in kernels' own cases
    const tried = new Set<string>([...programRuns().map(({ op }) => op), ...alone]);
    const missing = Object.keys(fusedContracts).filter(
      (op) => !tried.has(op) && !tried.has(op.replace(/Backward$/, '')),
    );
    expect(missing).toEqual([]);
  });
}
