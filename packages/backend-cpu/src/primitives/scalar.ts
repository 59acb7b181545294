import { bf16Code, bf16Value, bytesOf, f16Code, f16Value, type View } from '@lowrank/kernels';
import type { Engine } from '../runtime/engine.ts';

function dataView(engine: Engine, view: View, offset: number): [DataView, number] {
  return [new DataView(engine.heap.memory.buffer), engine.pointer(view) + offset * bytesOf[view.dtype]];
}

/** One element as a number; `offset` in elements from the view's start. For single values, never for whole tensors. */
export function readElement(engine: Engine, view: View, offset: number): number {
  const [data, at] = dataView(engine, view, offset);
  switch (view.dtype) {
    case 'f32':
      return data.getFloat32(at, true);
    case 'f16':
      return f16Value(data.getUint16(at, true));
    case 'bf16':
      return bf16Value(data.getUint16(at, true));
    case 'i32':
      return data.getInt32(at, true);
    case 'u32':
      return data.getUint32(at, true);
    case 'u8':
      return data.getUint8(at);
  }
}

/** Writes one element: floats round to nearest even, integers truncate and saturate. */
export function writeElement(engine: Engine, view: View, offset: number, value: number): void {
  const [data, at] = dataView(engine, view, offset);
  const whole = (low: number, high: number) => Math.min(high, Math.max(low, Math.trunc(value) || 0));
  switch (view.dtype) {
    case 'f32':
      data.setFloat32(at, value, true);
      break;
    case 'f16':
      data.setUint16(at, f16Code(value), true);
      break;
    case 'bf16':
      data.setUint16(at, bf16Code(value), true);
      break;
    case 'i32':
      data.setInt32(at, whole(-(2 ** 31), 2 ** 31 - 1), true);
      break;
    case 'u32':
      data.setUint32(at, whole(0, 2 ** 32 - 1), true);
      break;
    case 'u8':
      data.setUint8(at, whole(0, 255));
  }
}
