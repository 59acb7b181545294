import { type DeviceBuffer, LowrankError, type Memory } from '@lowrank/kernels';
import type { Engine } from './runtime/engine.ts';
import { ALIGNMENT, type HeapBuffer } from './runtime/heap.ts';

/** Many tensors share a piece of this size; larger ones get a piece of their own. */
const SLAB = 4 << 20;

/** The WebAssembly memory as a device's memory. */
export function cpuMemory(engine: Engine): Memory {
  const { heap } = engine;
  const at = (buffer: DeviceBuffer, offset: number, length: number): number => {
    const { pointer, byteLength } = buffer as HeapBuffer;
    if (pointer < 0) throw new LowrankError('memory', 'the buffer was released');
    if (offset < 0 || offset + length > byteLength)
      throw new LowrankError('memory', 'outside of the buffer', `bytes ${offset}…${offset + length} of ${byteLength}`);
    return pointer + offset;
  };
  return {
    alignment: ALIGNMENT,
    pooling: { kind: 'slab', slabBytes: SLAB },
    allocate: (byteLength) => {
      engine.checkOpen();
      return heap.allocate(byteLength);
    },
    release: (buffer) => heap.release(buffer as HeapBuffer),
    write: (buffer, byteOffset, data) => {
      heap.bytes.set(data, at(buffer, byteOffset, data.byteLength));
    },
    read: async (buffer, byteOffset, byteLength) => {
      const from = at(buffer, byteOffset, byteLength);
      const out = new Uint8Array(byteLength);
      out.set(heap.bytes.subarray(from, from + byteLength));
      return out;
    },
    copy: (from, fromOffset, to, toOffset, byteLength) => {
      const source = at(from, fromOffset, byteLength);
      heap.bytes.copyWithin(at(to, toOffset, byteLength), source, source + byteLength);
    },
    reservedBytes: () => engine.reservedBytes,
  };
}
