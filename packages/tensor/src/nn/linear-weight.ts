import { check, describe, type FloatDType, type QuantAttrs, type QuantViews } from '@lowrank/kernels';
import { noGrad } from '../autograd/mode.ts';
import type { Tensors } from '../ops/call.ts';
import { cast, matmul } from '../ops/primitives.ts';
import { copyInto } from '../ops/raw.ts';
import { split, transpose } from '../ops/views.ts';
import { scope } from '../scope.ts';
import type { Tensor } from '../tensor.ts';

/** What kernels of linear layers get: a dense weight, or codes with their scales. */
export type WeightOperand =
  | { readonly weight: Tensor }
  | { readonly quant: Tensors<QuantViews>; readonly attrs: QuantAttrs };

/**
 * The weight of a linear layer, [outFeatures, inFeatures], in whatever format it is stored. Layers, adapters and merging see only this,
 * so formats and adapters never multiply.
 */
export interface LinearWeight extends Disposable {
  /** `dense`, `nf4`, `fp4`, `int8` … */
  readonly format: string;
  readonly outFeatures: number;
  readonly inFeatures: number;
  /** Bytes on the device, scales included. */
  readonly byteLength: number;
  /** x·Wᵀ + c for x [M, in]; with `transposed` x·W for x [M, out]. Differentiable in x (and in W where the format can be trained). */
  matmul(x: Tensor, options?: { readonly transposed?: boolean; readonly c?: Tensor }): Tensor;
  /** The values as a fresh dense tensor [out, in]. */
  dequantize(dtype?: FloatDType): Tensor;
  /** The same format made from other values [out, in]; the old weight stays. */
  requantize(values: Tensor): Promise<LinearWeight>;
  operand(): WeightOperand;
  /** The tensors by the names that checkpoints give them, '' being the weight itself. */
  tensors(): ReadonlyMap<string, Tensor>;
  dispose(): void;
}

/** A weight stored as it is: f32, f16 or bf16. The one format that can be trained itself. */
export class DenseWeight implements LinearWeight {
  readonly format = 'dense';
  readonly tensor: Tensor;

  /** Takes over `tensor` [out, in]. */
  constructor(tensor: Tensor) {
    check(tensor.rank === 2, 'DenseWeight', 'needs [out, in]', () => describe(tensor));
    this.tensor = tensor;
  }

  get outFeatures(): number {
    return this.tensor.shape[0]!;
  }

  get inFeatures(): number {
    return this.tensor.shape[1]!;
  }

  get byteLength(): number {
    return this.tensor.byteLength;
  }

  matmul(x: Tensor, { transposed = false, c }: { transposed?: boolean; c?: Tensor } = {}): Tensor {
    const w = transposed ? this.tensor : transpose(this.tensor);
    return matmul(x, w, { dtype: x.dtype as FloatDType, ...(c ? { c } : {}) });
  }

  dequantize(dtype: FloatDType = this.tensor.dtype as FloatDType): Tensor {
    return scope(() => cast(this.tensor.detach(), dtype).contiguous());
  }

  async requantize(values: Tensor): Promise<LinearWeight> {
    check(
      values.shape[0] === this.outFeatures && values.shape[1] === this.inFeatures,
      'requantize',
      'shape differs',
      () => `${describe(values)} for ${describe(this.tensor)}`,
    );
    return new DenseWeight(scope(() => cast(values.detach(), this.tensor.dtype).contiguous()));
  }

  operand(): WeightOperand {
    return { weight: this.tensor };
  }

  tensors(): ReadonlyMap<string, Tensor> {
    return new Map([['', this.tensor]]);
  }

  dispose(): void {
    this.tensor.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/**
 * Moves dense weights of one input width and dtype one under the other into one buffer, so that a backend can take a group of layers as one
 * matrix. Weights in other formats, or of several kinds, stay as they are.
 */
export function stackWeights(weights: readonly LinearWeight[]): void {
  const tensors = weights.flatMap((w) => (w instanceof DenseWeight ? [w.tensor] : []));
  const [first] = tensors;
  const alike = ({ dtype, shape }: Tensor) => dtype === first!.dtype && shape[1] === first!.shape[1];
  if (!first || tensors.length < weights.length || tensors.length < 2 || !tensors.every(alike)) return;
  const { device, dtype } = first;
  const rows = tensors.map((t) => t.shape[0]!);
  noGrad(() =>
    scope(() => {
      const joint = device.empty([rows.reduce((n, r) => n + r, 0), first.shape[1]!], dtype, 'weights');
      for (const [i, place] of split(joint, rows, 0).entries()) {
        copyInto(tensors[i]!, place);
        tensors[i]!.moveTo(place);
      }
    }),
  );
}
