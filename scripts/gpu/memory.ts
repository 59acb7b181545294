/**
 * Memory of whole training steps, three ways: what the driver says is gone, what the pool counts, and what the forecast says on a backend
 * that computes nothing: memory.mjs RECORD [CASE,…].
 */
import { type ShapeName, shapeOf } from '../../benchmarks/src/shapes.ts';
import { measureTrainStep, type TrainStepOptions } from '../../benchmarks/src/train-step.ts';
import { backendOn } from '../../packages/backend-cuda/src/backend.ts';
import { CudaDevice } from '../../packages/backend-cuda/src/runtime/device.ts';
import { Device, nullBackend } from '../../packages/tensor/src/index.ts';
import { Records } from './record.ts';

const [record, only] = process.argv.slice(2);
const records = new Records(record);
type Case = readonly [
  shape: ShapeName,
  method: 'lora' | 'qlora',
  batch: number,
  length: number,
  recompute: TrainStepOptions['recompute'],
  offload?: boolean,
];
const cases: Readonly<Record<string, Case>> = {
  '8b-qlora-4-selective-offload': ['llama-3.1-8b', 'qlora', 4, 2048, 'selective', true],
  '8b-qlora-1-selective-offload': ['llama-3.1-8b', 'qlora', 1, 2048, 'selective', true],
  '8b-qlora-2-selective': ['llama-3.1-8b', 'qlora', 2, 2048, 'selective'],
  '8b-lora-4-selective-offload': ['llama-3.1-8b', 'lora', 4, 2048, 'selective', true],
  '8b-lora-2-selective': ['llama-3.1-8b', 'lora', 2, 2048, 'selective'],
  'smol-lora-1x512': ['smollm2-135m', 'lora', 1, 512, 'none'],
  'smol-qlora-8x512-selective': ['smollm2-135m', 'qlora', 8, 512, 'selective'],
};
const GiB = (bytes: number) => Number((bytes / 2 ** 30).toFixed(4));

for (const [name, [shape, method, batch, length, recompute, offload]] of Object.entries(cases)) {
  if (only && !only.split(',').includes(name)) continue;
  const options: TrainStepOptions = {
    config: shapeOf(shape),
    method,
    batch,
    length,
    recompute,
    rank: 16,
    dtype: 'bf16',
    steps: 2,
    ...(offload ? { offload } : {}),
  };
  const cuda = CudaDevice.open({});
  const backend = backendOn(cuda);
  const like = new Device(nullBackend(backend));
  const forecast = await measureTrainStep(like, options);
  const free = () => cuda.native.deviceStatus(cuda.handle).freeBytes;
  const before = free();
  const device = new Device(backend);
  let lowest = before;
  const run = await measureTrainStep(device, {
    ...options,
    onTimed: () => {
      lowest = Math.min(lowest, free());
    },
  });
  const measured = before - lowest;
  const off = (bytes: number) => Number((bytes / run.reservedBytes - 1).toFixed(4));
  records.add({
    kind: 'memory',
    name,
    driverGiB: GiB(measured),
    reservedGiB: GiB(run.reservedBytes),
    forecastReservedGiB: GiB(forecast.reservedBytes),
    liveGiB: GiB(run.peakBytes),
    forecastLiveGiB: GiB(forecast.peakBytes),
    driverAgainstCount: off(measured),
    forecastAgainstCount: off(forecast.reservedBytes),
    liveForecastAgainstLive: Number((forecast.peakBytes / run.peakBytes - 1).toFixed(4)),
    within: Math.abs(off(measured)) <= 0.02 && Math.abs(off(forecast.reservedBytes)) <= 0.02,
    liveAgainstReserved: off(run.peakBytes),
  });
  await device.close();
}
process.exit(0);
