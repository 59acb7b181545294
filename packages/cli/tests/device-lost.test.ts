import { createHash } from 'node:crypto';
import { available, type WebGpuBackend, webgpuBackend } from '@lowrank/backend-webgpu';
import { LoraModel } from '@lowrank/lora';
import { CausalLm, readConfig, type WeightSource } from '@lowrank/models';
import { BlockwiseWeight } from '@lowrank/nf4';
import { Device, keep, scope } from '@lowrank/tensor';
import { Dataset, MemoryCheckpoints, Trainer, type TrainerOptions } from '@lowrank/trainer';
import { expect, test } from 'vitest';

const found = await available();
if (!found.ok && process.env.REQUIRE_WEBGPU === '1') throw new Error(`WebGPU is required here: ${found.reason}`);

const config = readConfig({
  model_type: 'llama',
  vocab_size: 64,
  hidden_size: 32,
  intermediate_size: 64,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  rms_norm_eps: 1e-5,
  rope_theta: 1e4,
  max_position_embeddings: 64,
  tie_word_embeddings: true,
});
const steps = 6;

/** A run of its own on a device of its own, from the last checkpoint if there is one. `use` gets the trainer before it starts. */
async function session(
  checkpoints: MemoryCheckpoints,
  options: (backend: WebGpuBackend) => Partial<TrainerOptions>,
): Promise<number> {
  const backend = await webgpuBackend();
  const device = new Device(backend);
  let site = 0;
  const normal = (shape: readonly number[]) =>
    keep(scope(() => device.random(shape, { seed: 1, site: ++site }).affine(0.1, 0)));
  const weights: WeightSource = {
    linear: async (_, shape) => {
      using values = normal(shape);
      return BlockwiseWeight.quantize(values);
    },
    tensor: async (name, shape) => (name.includes('norm') ? keep(device.full(shape, 1)) : normal(shape)),
  };
  try {
    using model = await CausalLm.create(device, config, weights);
    using lora = new LoraModel(model, device);
    const seed = (lora.seed = device.seed(3));
    lora.addAdapter('default', { r: 4, loraAlpha: 8, targetModules: 'all-linear', loraDropout: 0.1 });
    const ids = (row: number) => Int32Array.from({ length: 12 }, (_, i) => (row * 7 + i * i) % 64);
    const samples = Array.from({ length: 12 }, (_, row) => ({ ids: ids(row), labels: ids(row), where: `row ${row}` }));
    using trainer = new Trainer({
      ...{
        device,
        model: lora.trainable(),
        data: new Dataset(samples, { padTokenId: 0 }),
        checkpoints,
        dropoutSeed: seed,
      },
      ...{ batchSize: 2, maxSteps: steps, saveSteps: 1, learningRate: 1e-2, ...options(backend) },
    });
    const from = await trainer.resume();
    await trainer.train();
    return from ?? 0;
  } finally {
    await device.close().catch(() => {});
  }
}

async function bytesOf(checkpoints: MemoryCheckpoints): Promise<Record<string, string>> {
  const { state, tensors } = (await checkpoints.load(steps))!;
  const sums: Record<string, string> = { state: JSON.stringify(state) };
  for (const [name, { read }] of tensors)
    sums[name] = createHash('sha256')
      .update(await read())
      .digest('hex');
  return sums;
}

test.skipIf(!found.ok)(
  `a WebGPU device that is lost in the middle of a step: the run ends with the bytes of one never stopped${found.ok ? '' : ` (skipped: ${found.reason})`}`,
  async () => {
    const straight = new MemoryCheckpoints();
    expect(await session(straight, () => ({}))).toBe(0);
    const wanted = await bytesOf(straight);
    expect(Object.keys(wanted).length).toBeGreaterThan(28);

    const checkpoints = new MemoryCheckpoints();
    let lost = false;
    const losing = (backend: WebGpuBackend): Partial<TrainerOptions> => {
      const { queue } = backend.device;
      const submit = queue.submit.bind(queue);
      let armed = false;
      queue.submit = (commands) => {
        submit(commands);
        if (!armed) return;
        armed = false;
        lost = true;
        backend.device.destroy();
      };
      return {
        onStep: ({ step }) => {
          armed = step === 3;
        },
      };
    };
    await expect(session(checkpoints, losing)).rejects.toThrow(
      /webgpu: the device was lost: .* resume from the last checkpoint/,
    );
    expect(lost).toBe(true);
    // Step 3 was told of before it was saved, or after.
    const last = checkpoints.steps.at(-1)!;
    expect([2, 3]).toContain(last);
    expect(await session(checkpoints, () => ({}))).toBe(last);
    expect(await bytesOf(checkpoints)).toEqual(wanted);
  },
);
