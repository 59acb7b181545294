/** Device memory in ArrayBuffers. */
import { type DeviceBuffer, LowrankError, type Memory } from '@lowrank/kernels';

type Held = DeviceBuffer & { bytes?: Uint8Array<ArrayBuffer> | undefined };

export function bytesOf(buffer: DeviceBuffer): Uint8Array<ArrayBuffer> {
  const { bytes } = buffer as Held;
  if (!bytes) throw new LowrankError('memory', 'used after release');
  return bytes;
}

/** Memory, and what ends it. */
export function hostMemory(): { memory: Memory; close(): void } {
  const live = new Set<Held>();
  let closed = false;
  const memory: Memory = {
    alignment: 16,
    pooling: { kind: 'whole' },
    allocate: (byteLength) => {
      if (closed) throw new LowrankError('allocate', 'the device is closed');
      try {
        const buffer: Held = { byteLength, bytes: new Uint8Array(byteLength) };
        live.add(buffer);
        return buffer;
      } catch (cause) {
        throw new LowrankError('allocate', 'out of memory', `asked ${byteLength} bytes`, '', { cause });
      }
    },
    release: (buffer: Held) => {
      bytesOf(buffer);
      buffer.bytes = undefined;
      live.delete(buffer);
    },
    write: (buffer, offset, data) => bytesOf(buffer).set(data, offset),
    read: async (buffer, offset, length) => bytesOf(buffer).slice(offset, offset + length),
    copy: (from, start, to, offset, length) => bytesOf(to).set(bytesOf(from).subarray(start, start + length), offset),
    reservedBytes: () => [...live].reduce((sum, { byteLength }) => sum + byteLength, 0),
  };
  const close = () => {
    closed = true;
    for (const buffer of live) memory.release(buffer);
  };
  return { memory, close };
}
