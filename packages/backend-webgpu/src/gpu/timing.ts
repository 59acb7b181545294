import { LowrankError } from '@lowrank/kernels';
import type { Gpu } from './gpu.ts';
import type { Stream } from './stream.ts';

/** What a dispatch was, and how long the device took for it. */
export interface DispatchTime {
  readonly op: string;
  /** The kernel's file. */
  readonly file: string;
  readonly groups: readonly [number, number, number];
  readonly nanoseconds: number;
}

/** Timestamps at both ends of each dispatch, which then has a pass of its own. */
export class Profile {
  readonly #device: GPUDevice;
  readonly #sets: GPUQuerySet[] = [];
  readonly #dispatches: Omit<DispatchTime, 'nanoseconds'>[] = [];

  constructor(device: GPUDevice) {
    this.#device = device;
  }

  /** Where the pass of the next dispatch writes its timestamps. `label` is that of its pipeline. */
  next(label: string, groups: readonly [number, number, number]): GPUComputePassTimestampWrites {
    const at = (this.#dispatches.length * 2) % mostQueries;
    if (at === 0) this.#sets.push(this.#device.createQuerySet({ type: 'timestamp', count: mostQueries }));
    const [, op, file] = label.split(' ');
    this.#dispatches.push({ op: op!, file: file!, groups });
    return { querySet: this.#sets.at(-1)!, beginningOfPassWriteIndex: at, endOfPassWriteIndex: at + 1 };
  }

  async read(stream: Stream): Promise<DispatchTime[]> {
    const times: DispatchTime[] = [];
    for (const [i, querySet] of this.#sets.entries()) {
      const some = this.#dispatches.slice((i * mostQueries) / 2, ((i + 1) * mostQueries) / 2);
      const stamps = await resolve(this.#device, stream, querySet, some.length * 2);
      for (const [j, dispatch] of some.entries())
        times.push({ ...dispatch, nanoseconds: Number(stamps[2 * j + 1]! - stamps[2 * j]!) });
      querySet.destroy();
    }
    return times;
  }
}

/** Most that a query set holds. */
const mostQueries = 4096;

/** Throws a LowrankError where the device has no timestamps. */
export function needTimestamps({ features }: Gpu, op: string): void {
  if (!features.has('timestamp-query'))
    throw new LowrankError(op, 'the device has no timestamp-query', '', 'Measure whole steps by the clock');
}

async function resolve(
  device: GPUDevice,
  stream: Stream,
  querySet: GPUQuerySet,
  count: number,
): Promise<BigUint64Array> {
  const size = count * 8;
  const resolved = device.createBuffer({ size, usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC });
  const staging = device.createBuffer({ size, usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ });
  try {
    stream.endPass();
    stream.encoder.resolveQuerySet(querySet, 0, count, resolved, 0);
    stream.encoder.copyBufferToBuffer(resolved, 0, staging, 0, size);
    stream.flush();
    await staging.mapAsync(GPUMapMode.READ);
    return new BigUint64Array(staging.getMappedRange().slice(0));
  } finally {
    resolved.destroy();
    staging.destroy();
  }
}

/** Nanoseconds between the start and the end of one compute pass with the dispatches of `fn`. */
export async function deviceTime(gpu: Gpu, stream: Stream, fn: () => void): Promise<number> {
  needTimestamps(gpu, 'gpuTime');
  const querySet = gpu.device.createQuerySet({ type: 'timestamp', count: 2 });
  try {
    stream.timed({ querySet, beginningOfPassWriteIndex: 0, endOfPassWriteIndex: 1 }, fn);
    const [from, to] = (await resolve(gpu.device, stream, querySet, 2)) as unknown as [bigint, bigint];
    await gpu.settle();
    return Number(to - from);
  } finally {
    querySet.destroy();
  }
}
