import { bf16ToF32, f16ToF32, f32ToBf16, f32ToF16 } from '@lowrank/formats';
import {
  bytesOf,
  type Device,
  type FloatDType,
  keep,
  type MemoryClass,
  reshape,
  slice,
  type Tensor,
} from '@lowrank/tensor';
import type { StoredWeights } from './stored.ts';

/**
 * A stored tensor on the device, in `dtype`, chunk by chunk: the host holds one chunk. The tensor is in no scope: the caller disposes it.
 * `signal` stops between chunks, with its reason.
 */
export async function upload(
  device: Device,
  weights: StoredWeights,
  name: string,
  dtype: FloatDType,
  memoryClass: MemoryClass,
  signal?: AbortSignal,
): Promise<Tensor> {
  const { shape, dtype: from } = await weights.info(name);
  const tensor = keep(device.empty(shape, dtype, memoryClass));
  try {
    let at = 0;
    for await (const chunk of weights.stream(name)) {
      signal?.throwIfAborted();
      const n = chunk.byteLength / bytesOf[from];
      using flat = keep(reshape(tensor, [-1]));
      using part = keep(slice(flat, 0, at, at + n));
      device.write(part, convert(chunk, from, dtype));
      at += n;
    }
    return tensor;
  } catch (error) {
    tensor.dispose();
    throw error;
  }
}

/** Little-endian floats of one dtype as another: exact to a wider one, else rounded to nearest, ties to even. */
function convert(bytes: Uint8Array, from: FloatDType, to: FloatDType): Uint8Array {
  if (from === to) return bytes;
  const values =
    from === 'f32'
      ? new Float32Array(...ranged(bytes, 4))
      : from === 'bf16'
        ? bf16ToF32(new Uint16Array(...ranged(bytes, 2)))
        : f16ToF32(new Uint16Array(...ranged(bytes, 2)));
  const out = to === 'f32' ? values : to === 'bf16' ? f32ToBf16(values) : f32ToF16(values);
  return new Uint8Array(out.buffer, out.byteOffset, out.byteLength);
}

/** Arguments of a typed array over the bytes, copied where their address does not allow one. */
function ranged(bytes: Uint8Array, unit: number): [ArrayBuffer, number, number] {
  const even = bytes.byteOffset % unit === 0 ? bytes : bytes.slice();
  return [even.buffer as ArrayBuffer, even.byteOffset, even.byteLength / unit];
}
