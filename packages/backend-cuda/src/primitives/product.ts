import type { View } from '@lowrank/kernels';
import type { CudaDevice } from '../runtime/device.ts';
import type { GemmPlans } from '../runtime/gemm.ts';
import { matmul } from './matmul.ts';

/** y = alpha · a·b (+ c); `c` may be y itself. Matrices of any strides. */
export function product(
  device: CudaDevice,
  plans: GemmPlans,
  a: View,
  b: View,
  y: View,
  { alpha = 1, c }: { alpha?: number; c?: View | undefined } = {},
): void {
  matmul(device, plans, { inputs: c ? { a, b, c } : { a, b }, outputs: { y }, attrs: { alpha, beta: 1 } });
}

/** The transpose of a matrix. */
export function transposed(view: View): View {
  return { ...view, shape: [view.shape[1]!, view.shape[0]!], strides: [view.strides[1]!, view.strides[0]!] };
}

/** Columns first … first + count − 1 of a matrix. */
export function columns(view: View, first: number, count: number, bytes: number): View {
  return { ...view, shape: [view.shape[0]!, count], byteOffset: view.byteOffset + first * view.strides[1]! * bytes };
}
