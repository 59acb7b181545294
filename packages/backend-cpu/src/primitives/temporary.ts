import { bytesOf, contiguousStrides, type DType, sizeOf, type View } from '@lowrank/kernels';
import type { Engine } from '../runtime/engine.ts';
import type { HeapBuffer } from '../runtime/heap.ts';

/** A contiguous view on memory that lasts until the op ends. */
export function temporaryView(engine: Engine, shape: readonly number[], dtype: DType): View {
  const byteLength = sizeOf(shape) * bytesOf[dtype];
  const buffer: HeapBuffer = { byteLength, pointer: engine.temporary(byteLength) };
  return { buffer, byteOffset: 0, dtype, shape, strides: contiguousStrides(shape) };
}

/** A contiguous view on an address, of memory that someone else holds. */
export function viewAt(pointer: number, shape: readonly number[], dtype: DType): View {
  const buffer: HeapBuffer = { byteLength: sizeOf(shape) * bytesOf[dtype], pointer };
  return { buffer, byteOffset: 0, dtype, shape, strides: contiguousStrides(shape) };
}
