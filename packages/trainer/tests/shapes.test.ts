import { CausalLm, readConfig } from '@lowrank/models';
import { DenseWeight, Device, keep, nullBackend } from '@lowrank/tensor';
import { expect, test } from 'vitest';
import { Dataset, selectParameters, Trainer } from '../src/index.ts';
import { readJson, trainable } from './support.ts';

/** A decoder large enough that its activations matter, on a backend that only counts. */
async function decoder(device: Device): Promise<CausalLm> {
  const config = readConfig({
    ...readJson('families/smollm2/config.json'),
    hidden_size: 256,
    intermediate_size: 768,
    num_hidden_layers: 8,
    head_dim: 64,
    max_position_embeddings: 512,
  });
  const make = (shape: readonly number[]) => keep(device.empty(shape, 'f32', 'weights'));
  return CausalLm.create(device, config, {
    linear: async (_, shape) => new DenseWeight(make(shape)),
    tensor: async (_, shape) => make(shape),
  });
}

/** 256 samples of 20 to 250 tokens: few batches are alike. */
function lengths(): Dataset {
  const samples = Array.from({ length: 256 }, (_, i) => {
    const ids = new Int32Array(20 + ((i * 97) % 231)).fill(1);
    return { ids, labels: ids, where: `row ${i}` };
  });
  return new Dataset(samples, { padTokenId: 2 });
}

test.each([
  { pooling: { kind: 'slab', slabBytes: 1 << 20 }, most: 1.1 },
  { pooling: { kind: 'whole' }, most: 1.3 },
] as const)(
  'batches of many lengths hold little more than the longest needs: $pooling.kind',
  async ({ pooling, most }) => {
    const backend = nullBackend();
    await using device = new Device({ ...backend, memory: { ...backend.memory, pooling } });
    const model = await decoder(device);
    const trainer = new Trainer({
      device,
      model: trainable(model, selectParameters(model)),
      data: lengths(),
      batchSize: 4,
      shuffle: false,
      numEpochs: 2,
      learningRate: 1e-3,
    });
    await trainer.train();
    const { peak, peakReserved } = device.memory();
    expect(peakReserved / peak).toBeLessThan(most);
    trainer.dispose();
    model.dispose();
    expect(device.memory().live).toBe(0);
    device.pool.trim();
    expect(device.memory().reserved).toBe(0);
  },
);
