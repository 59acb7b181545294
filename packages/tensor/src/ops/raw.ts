import { type BinaryOp, type DType, sameShape } from '@lowrank/kernels';
import type { Device } from '../device.ts';
import type { Tensor } from '../tensor.ts';

/** Ops below autograd, for the engine itself: never recorded. */

/** op(a, b) of equal shapes, into `into` or fresh memory. */
export function binaryInto(op: BinaryOp, a: Tensor, b: Tensor, into?: Tensor): Tensor {
  if (!sameShape(a.shape, b.shape))
    throw new RangeError(`gradient of shape [${b.shape}] for a tensor of shape [${a.shape}]`);
  const y = into ?? a.device.empty(a.shape, a.dtype);
  a.device.runPrimitive('binary', { inputs: { a: a.view, b: b.view }, outputs: { y: y.view }, attrs: { op } } as never);
  return y;
}

export function castTo(x: Tensor, dtype: DType): Tensor {
  const y = x.device.empty(x.shape, dtype);
  x.device.runPrimitive('cast', { inputs: { x: x.view }, outputs: { y: y.view }, attrs: { dtype } } as never);
  return y;
}

export function copyInto(x: Tensor, into: Tensor): Tensor {
  x.device.runPrimitive('copy', { inputs: { x: x.view }, outputs: { y: into.view }, attrs: {} } as never);
  return into;
}

export function fillInto(into: Tensor, value: number): Tensor {
  into.device.runPrimitive('fill', {
    inputs: {},
    outputs: { y: into.view },
    attrs: { shape: into.shape, dtype: into.dtype, value },
  } as never);
  return into;
}

export function ones(device: Device, shape: readonly number[], dtype: DType): Tensor {
  return device.full(shape, 1, dtype);
}
