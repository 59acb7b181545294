import {
  type Backend,
  type Call,
  type DeviceBuffer,
  type DType,
  dtypes,
  LowrankError,
  leaves,
  type Memory,
  mapLeaves,
  type OpTypes,
  type View,
} from '@lowrank/kernels';
import { type RefArray, type Reference, references } from '@lowrank/kernels/testing';
import { load, store } from './elements.ts';
import { ops } from './trial.ts';

class HostBuffer implements DeviceBuffer {
  readonly byteLength: number;
  bytes: Uint8Array | undefined;

  constructor(byteLength: number) {
    this.byteLength = byteLength;
    this.bytes = new Uint8Array(byteLength);
  }
}

function bytesOfBuffer(buffer: DeviceBuffer): Uint8Array {
  const { bytes } = buffer as HostBuffer;
  if (!bytes) throw new LowrankError('memory', 'used after release', `${buffer.byteLength} bytes`);
  return bytes;
}

/** Memory in ArrayBuffers. */
class HostMemory implements Memory {
  readonly alignment = 64;
  readonly pooling = { kind: 'slab', slabBytes: 2 ** 20 } as const;
  readonly #live = new Set<HostBuffer>();
  #closed = false;

  allocate(byteLength: number): DeviceBuffer {
    if (this.#closed) throw new LowrankError('allocate', 'the device is closed');
    try {
      const buffer = new HostBuffer(byteLength);
      this.#live.add(buffer);
      return buffer;
    } catch (cause) {
      const facts = `asked ${byteLength} bytes, ${this.reservedBytes()} are taken`;
      throw new LowrankError('allocate', 'out of memory', facts, '', { cause });
    }
  }

  release(buffer: DeviceBuffer): void {
    bytesOfBuffer(buffer);
    (buffer as HostBuffer).bytes = undefined;
    this.#live.delete(buffer as HostBuffer);
  }

  write(buffer: DeviceBuffer, byteOffset: number, data: Uint8Array): void {
    bytesOfBuffer(buffer).set(data, byteOffset);
  }

  async read(buffer: DeviceBuffer, byteOffset: number, byteLength: number): Promise<Uint8Array> {
    return bytesOfBuffer(buffer).slice(byteOffset, byteOffset + byteLength);
  }

  copy(from: DeviceBuffer, fromOffset: number, to: DeviceBuffer, toOffset: number, byteLength: number): void {
    bytesOfBuffer(to).set(bytesOfBuffer(from).subarray(fromOffset, fromOffset + byteLength), toOffset);
  }

  reservedBytes(): number {
    let sum = 0;
    for (const buffer of this.#live) sum += buffer.byteLength;
    return sum;
  }

  close(): void {
    for (const buffer of [...this.#live]) this.release(buffer);
    this.#closed = true;
  }
}

/** Loads every input as numbers, runs the reference, rounds and stores every output. Inputs are loaded first: outputs may lie over them. */
function kernelOf(reference: Reference<OpTypes>) {
  return ({ inputs, outputs, attrs }: Call<OpTypes>): void => {
    const arrays = mapLeaves<View, RefArray>(inputs, (view) => load(bytesOfBuffer(view.buffer), view.byteOffset, view));
    const results = new Map(
      leaves<RefArray>(reference(arrays as object, attrs)).map(({ path, value }) => [path, value]),
    );
    for (const { path, value: view } of leaves(outputs))
      store(bytesOfBuffer(view.buffer), view.byteOffset, view, results.get(path)!);
  };
}

/**
 * A complete backend that runs the references in f64 on ArrayBuffers: slow, and right by definition. The oracle of `validating`, and what
 * tests of other packages can run on. Pass `fused: false` for one that has primitives alone.
 */
export function referenceBackend({ fused = true }: { readonly fused?: boolean } = {}): Backend {
  const memory = new HostMemory();
  const kernels = (kind: 'primitive' | 'fused') =>
    Object.fromEntries(
      ops
        .filter((op) => op.kind === kind)
        .map(({ name }) => {
          const run = kernelOf((references as unknown as Record<string, Reference<OpTypes>>)[name]!);
          return [name, kind === 'fused' ? { accepts: () => true, run } : run];
        }),
    );
  const use = (dtype: DType) => [dtype, { store: true, compute: true, fastMatmul: dtype === 'f32' }] as const;
  return {
    name: 'reference',
    caps: {
      device: 'f64 loops in TypeScript',
      dtypes: Object.fromEntries(dtypes.map(use)) as Backend['caps']['dtypes'],
      preferredCompute: 'f32',
      limits: { maxBufferBytes: 2 ** 32 },
      features: [],
      asynchronous: false,
    },
    memory,
    primitives: kernels('primitive') as unknown as Backend['primitives'],
    fused: fused ? (kernels('fused') as unknown as Backend['fused']) : {},
    synchronize: () => Promise.resolve(),
    close: async () => memory.close(),
  };
}
