import { LowrankError } from '@lowrank/kernels';
import type { Gpu } from './gpu.ts';
import type { Stream } from './stream.ts';

/** Nanoseconds between the start and the end of one compute pass with the dispatches of `fn`. */
export async function deviceTime(gpu: Gpu, stream: Stream, fn: () => void): Promise<number> {
  if (!gpu.features.has('timestamp-query'))
    throw new LowrankError('gpuTime', 'the device has no timestamp-query', '', 'Measure whole steps by the clock');
  const { device } = gpu;
  const querySet = device.createQuerySet({ type: 'timestamp', count: 2 });
  const resolved = device.createBuffer({ size: 16, usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC });
  const staging = device.createBuffer({ size: 16, usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ });
  try {
    stream.timed({ querySet, beginningOfPassWriteIndex: 0, endOfPassWriteIndex: 1 }, fn);
    stream.encoder.resolveQuerySet(querySet, 0, 2, resolved, 0);
    stream.encoder.copyBufferToBuffer(resolved, 0, staging, 0, 16);
    stream.flush();
    await staging.mapAsync(GPUMapMode.READ);
    const [from, to] = new BigUint64Array(staging.getMappedRange().slice(0)) as unknown as [bigint, bigint];
    await gpu.settle();
    return Number(to - from);
  } finally {
    querySet.destroy();
    resolved.destroy();
    staging.destroy();
  }
}
