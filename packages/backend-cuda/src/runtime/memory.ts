import { type DeviceBuffer, LowrankError, type Memory } from '@lowrank/kernels';
import type { Handle } from '../native.ts';
import type { CudaDevice } from './device.ts';

/** Device memory of the driver. */
export interface CudaBuffer extends DeviceBuffer {
  readonly handle: Handle;
}

/** Bytes that one request of the pool takes from the driver at least. */
const slabBytes = 64 << 20;

/** Raw memory of the device, in stream order. */
export function cudaMemory(device: CudaDevice): Memory {
  const own = (buffer: DeviceBuffer): CudaBuffer => {
    if (typeof (buffer as Partial<CudaBuffer>).handle !== 'number')
      throw new LowrankError('cuda', 'the buffer belongs to another backend');
    return buffer as CudaBuffer;
  };
  return {
    alignment: 256,
    pooling: { kind: 'slab', slabBytes },
    allocate: (byteLength) => device.allocate(byteLength),
    release: (buffer) => device.release(own(buffer)),
    write: (buffer, byteOffset, data) => {
      device.flush();
      device.call(() => device.native.write(device.stream, own(buffer).handle, byteOffset, data));
    },
    read: (buffer, byteOffset, byteLength) => {
      device.flush();
      return device.pending(
        device.call(() => device.native.read(device.stream, own(buffer).handle, byteOffset, byteLength)),
      );
    },
    copy: (from, fromOffset, to, toOffset, bytes) => {
      device.commands.copy(
        { memory: own(to).handle, offset: toOffset, bytes },
        { memory: own(from).handle, offset: fromOffset, bytes },
      );
      device.enqueued();
    },
    offload: device.offload,
    reservedBytes: () => device.reservedBytes,
  };
}
