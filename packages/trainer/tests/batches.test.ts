import { noGrad } from '@lowrank/tensor';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BatchPlan, collate, Dataset, type Sample } from '../src/index.ts';
import { headRows } from '../src/loop/inputs.ts';
import { randomData, tinyModel, withDevice } from './support.ts';

/** Samples whose every id is unlike any other, so that what a label came from can be told. */
const samples = fc
  .array(fc.record({ length: fc.integer({ min: 2, max: 20 }), prompt: fc.integer({ min: 0, max: 18 }) }), {
    minLength: 1,
    maxLength: 40,
  })
  .map((list) => {
    let next = 1;
    return list.map(({ length, prompt }, i): Sample => {
      const ids = Int32Array.from({ length }, () => next++);
      return { ids, labels: ids.map((id, t) => (t < Math.min(prompt, length - 1) ? -100 : id)), where: `sample ${i}` };
    });
  });

const options = fc.record({
  batchSize: fc.integer({ min: 1, max: 5 }),
  gradientAccumulationSteps: fc.integer({ min: 1, max: 3 }),
  shuffle: fc.boolean(),
  seed: fc.integer({ min: 0, max: 2 ** 40 }),
  mode: fc.constantFrom('plain', 'grouped', 'packed'),
  padTo: fc.constantFrom('longest' as const, 'max' as const),
  padToMultipleOf: fc.integer({ min: 1, max: 9 }),
  epoch: fc.integer({ min: 0, max: 3 }),
});

describe('batches', () => {
  test('every sample comes once an epoch, whole, with its labels shifted and nothing else counted', () => {
    fc.assert(
      fc.property(samples, options, (list, { mode, epoch, ...rest }) => {
        const data = new Dataset(list, { padTokenId: 0 });
        const plan = new BatchPlan(data, { ...rest, packing: mode === 'packed', groupByLength: mode === 'grouped' });
        const owner = new Map<number, number>();
        for (const [i, { ids }] of list.entries()) for (const id of ids) owner.set(id, i);
        const seen: number[] = [];
        let counted = 0;
        const batches = Array.from({ length: plan.steps(epoch) }, (_, p) => plan.step(epoch, p));
        for (const group of batches.slice(0, -1)) expect(group).toHaveLength(rest.gradientAccumulationSteps);
        for (const batch of batches.flat()) {
          const [rows, length] = batch.shape;
          expect(length % rest.padToMultipleOf).toBe(0);
          expect(rows).toBeLessThanOrEqual(rest.batchSize);
          expect(length).toBeLessThanOrEqual(plan.longestRow);
          let tokens = 0;
          let inputTokens = 0;
          for (let i = 0; i < rows * length; i++) {
            const id = batch.ids[i]!;
            const t = i % length;
            const start = batch.starts?.[i] ?? 0;
            expect(start).toBeLessThanOrEqual(t);
            if (id === 0) {
              expect(batch.labels[i]).toBe(-100);
              continue;
            }
            inputTokens++;
            const sample = list[owner.get(id)!]!;
            const at = batch.positions[i]!;
            expect(sample.ids[at]).toBe(id);
            // what it sees begins with its own sample, and all of it is its own
            for (let s = start; s <= t; s++) expect(owner.get(batch.ids[i - t + s]!)).toBe(owner.get(id));
            expect(at).toBe(t - start);
            if (at === 0) seen.push(owner.get(id)!);
            const wanted = at + 1 < sample.ids.length ? sample.labels[at + 1]! : -100;
            expect(batch.labels[i]).toBe(wanted);
            if (wanted !== -100) tokens++;
          }
          expect(batch.tokens).toBe(tokens);
          expect(batch.inputTokens).toBe(inputTokens);
          counted += tokens;
        }
        expect(seen.sort((a, b) => a - b)).toEqual(list.map((_, i) => i));
        expect(counted).toBe(list.reduce((n, s) => n + s.labels.slice(1).filter((l) => l !== -100).length, 0));
      }),
      { numRuns: 300 },
    );
  });

  test('the order depends on seed and epoch alone', () => {
    const data = randomData(100);
    const order = (seed: number, epoch: number, extra = {}) =>
      JSON.stringify(new BatchPlan(data, { batchSize: 4, seed, ...extra }).batches(epoch));
    expect(order(1, 0)).toBe(order(1, 0));
    expect(new Set([order(1, 0), order(1, 1), order(2, 0), order(2 ** 33 + 1, 0)]).size).toBe(4);
    expect(order(1, 5, { shuffle: false })).toBe(order(2, 0, { shuffle: false }));
    expect(JSON.parse(order(0, 0, { shuffle: false })).flat(2)).toEqual(data.samples.map((_, i) => i));
    const plan = new BatchPlan(data, { batchSize: 4, seed: 3 });
    plan.batches(4);
    expect(JSON.stringify(plan.batches(2))).toBe(order(3, 2));
  });

  test('shuffles are even', () => {
    const data = randomData(5);
    const counts = Array.from({ length: 5 }, () => [0, 0, 0, 0, 0]);
    for (let seed = 0; seed < 2000; seed++)
      for (const [at, [row]] of new BatchPlan(data, { batchSize: 1, seed }).batches(0).entries())
        counts[at]![row![0]!]!++;
    // 400 each; six standard deviations of a binomial are 107
    for (const n of counts.flat()) expect(Math.abs(n - 400)).toBeLessThan(107);
  });

  test('grouping by length pads less, and the longest comes first', () => {
    const data = randomData(400, { longest: 60 });
    const padding = (extra: object) => {
      const plan = new BatchPlan(data, { batchSize: 4, padToMultipleOf: 1, ...extra });
      const batches = Array.from({ length: plan.steps(0) }, (_, p) => plan.step(0, p)).flat();
      return { first: batches[0]!.shape[1], cells: batches.reduce((n, b) => n + b.ids.length, 0) / data.tokens };
    };
    expect(padding({ groupByLength: true }).cells).toBeLessThan(1.1);
    expect(padding({}).cells).toBeGreaterThan(1.2);
    expect(padding({ groupByLength: true }).first).toBe(data.longest);
  });

  test('packing fills rows; in file order it keeps the order', () => {
    const data = randomData(500, { longest: 60 });
    const plan = new BatchPlan(data, { batchSize: 2, packing: true, rowLength: 128 });
    const rows = plan.batches(0).flat();
    expect(data.tokens / (rows.length * 128)).toBeGreaterThan(0.97);
    const inOrder = new BatchPlan(data, { batchSize: 2, packing: true, rowLength: 128, shuffle: false });
    expect(inOrder.batches(0).flat(2)).toEqual(data.samples.map((_, i) => i));
    const shapes = new Set(Array.from({ length: plan.steps(0) }, (_, p) => plan.step(0, p)[0]!.shape.join()));
    expect([...shapes]).toEqual(['2,128']);
    // a batch that all of the data do not fill holds no rows of padding
    const rest = new BatchPlan(data.slice(0, 5), { batchSize: 64, packing: true, rowLength: 60 });
    const [batch] = rest.step(0, 0);
    expect(batch!.shape).toEqual([rest.batches(0)[0]!.length, 64]);
    expect(batch!.samples.flat()).toHaveLength(5);
  });

  test('steps of epochs, and settings that cannot be meant', () => {
    const data = randomData(10);
    const plan = new BatchPlan(data, { batchSize: 2, gradientAccumulationSteps: 2 });
    expect([plan.steps(0), plan.stepsOf(1), plan.stepsOf(2.5), plan.stepsOf(0.1)]).toEqual([3, 3, 8, 1]);
    expect(() => new BatchPlan(data, { batchSize: 0 })).toThrow(/batchSize/);
    expect(() => new BatchPlan(data, { batchSize: 1, packing: true, rowLength: 8 })).toThrow(/longer than a row/);
    expect(() => new BatchPlan(data, { batchSize: 1, packing: true, groupByLength: true })).toThrow(
      /exclude each other/,
    );
  });

  test('the head sees the rows that count, and padding that does not', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 60 }),
        fc.array(fc.boolean(), { minLength: 60, maxLength: 60 }),
        (n, mask) => {
          const labels = Int32Array.from({ length: n }, (_, i) => (mask[i] ? 5 : -100));
          const tokens = labels.filter((l) => l === 5).length;
          const rows = headRows({ shape: [1, n], labels, tokens });
          if (!rows) {
            expect(tokens).toBeGreaterThan(n - 2 * Math.ceil(n / 4));
            return;
          }
          const used = [...rows].filter((r) => r >= 0);
          expect(used).toEqual([...labels.keys()].filter((i) => labels[i] === 5));
          expect(rows.length % Math.ceil(n / 4)).toBe(0);
          expect(rows.length).toBeLessThan(n);
        },
      ),
    );
  });
});

describe('packed rows in a model', () => {
  test('give each sample the hidden states it has alone', async () => {
    const data = randomData(6, { longest: 12 });
    const plan = new BatchPlan(data, {
      batchSize: 8,
      packing: true,
      rowLength: 32,
      padToMultipleOf: 1,
      shuffle: false,
    });
    await withDevice(async (device) => {
      const model = await tinyModel(device);
      const states = async (batch: ReturnType<typeof collate>) => {
        const shape = [...batch.shape];
        const own = [device.tensor(batch.ids, { shape }), device.tensor(batch.positions, { shape })];
        const starts = batch.starts && device.tensor(batch.starts, { shape });
        const hidden = noGrad(() => model.hidden(own[0]!, { positions: own[1]!, ...(starts ? { starts } : {}) }));
        const values = await hidden.toArray();
        for (const t of [...own, starts, hidden]) t?.dispose();
        return values as Float32Array;
      };
      const [packed] = plan.step(0, 0);
      expect(packed!.samples.some((row) => row.length > 1)).toBe(true);
      const together = await states(packed!);
      const width = together.length / packed!.ids.length;
      let compared = 0;
      for (const [r, row] of packed!.samples.entries()) {
        let at = r * packed!.shape[1];
        for (const index of row) {
          const n = data.samples[index]!.ids.length;
          const alone = await states(collate(data, [[index]], n));
          const part = together.subarray(at * width, (at + n) * width);
          for (let i = 0; i < part.length; i++) expect(Math.abs(part[i]! - alone[i]!)).toBeLessThan(2e-5);
          at += n;
          compared++;
        }
      }
      expect(compared).toBe(6);
      model.dispose();
    });
  });
});
