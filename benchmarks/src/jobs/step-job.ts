/** A runner of whole training steps on a backend: step-job.ts BACKEND JSON. */
import { createInterface } from 'node:readline';
import { counting, Device, nullBackend } from '@lowrank/tensor';
import { fallbackNote, openBackend, reasonOf } from '../backends.ts';
import { environment, factsOf } from '../environment.ts';
import { type ShapeName, shapeOf } from '../shapes.ts';
import { measureTrainStep } from '../train-step.ts';
import { type Message, stepCase } from './protocol.ts';

const tell = (m: Message) => process.stdout.write(`${JSON.stringify(m)}\n`);

try {
  const [name, json] = process.argv.slice(2) as [string, string];
  const job = stepCase.parse(JSON.parse(json));
  const idle = process.memoryUsage.rss();
  if (job.callByCall) process.env.LOWRANK_CUDA_SYNC = '1'; // of the devices that run apart from the host, CUDA alone can
  const opened = await openBackend(name, { threads: job.threads });
  const { backend, counts } = counting(opened);
  await using device = new Device(backend);
  const { device: what, driver, features } = factsOf(opened);
  const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  let ready = false;
  let timed = 0;
  const options = {
    config: shapeOf(job.shape as ShapeName, job.layers),
    method: job.method,
    batch: job.batch,
    length: job.length,
    rank: job.rank,
    recompute: job.recompute,
    record: job.record,
    dtype: job.dtype,
    seed: job.seed,
    ...(job.offload ? { offload: true } : {}),
  };
  const result = await measureTrainStep(device, {
    ...options,
    steps: 10_000,
    next: async () => {
      if (!ready) {
        // the share of each op is that of the steps that are timed
        counts.clear();
        const { packages } = environment();
        tell({ event: 'ready', device: what, driver, features, packages });
      }
      ready = true;
      return !(await lines.next()).done;
    },
    onTimed: (step) => {
      timed++;
      tell({ event: 'step', ...step });
    },
  });
  const figures: Record<string, number> = {
    idleResidentBytes: idle,
    residentBytes: process.memoryUsage.rss(),
    peakResidentBytes: process.resourceUsage().maxRSS * 1024,
    peakBytes: result.peakBytes,
    reservedBytes: result.reservedBytes,
    trainable: result.trainable,
    loss: result.loss,
  };
  for (const [cls, bytes] of Object.entries(result.bytesByClass)) figures[`bytes.${cls}`] = bytes;
  // times of calls mean the kernels alone where the device is synchronous, or is waited for
  if (!backend.caps.asynchronous || job.callByCall)
    for (const [op, { calls, milliseconds }] of counts) {
      figures[`op.${op}.milliseconds`] = milliseconds / timed;
      figures[`op.${op}.calls`] = calls / timed;
    }
  await using nothing = new Device(nullBackend(opened));
  figures.forecastBytes = (await measureTrainStep(nothing, { ...options, steps: 2 })).peakBytes;
  tell({ event: 'done', figures, notes: device.explain().map(fallbackNote) });
} catch (error) {
  tell({ event: 'failed', reason: reasonOf(error) });
}
process.exit(0);
