import {
  check,
  dequantize,
  describe,
  type FloatDType,
  type LinearWeight,
  type QuantAttrs,
  type QuantType,
  type QuantViews,
  quantMatmul,
  type Tensor,
  type Tensors,
  type WeightOperand,
} from '@lowrank/tensor';
import { type QuantizeOptions, quantizeBlockwise } from './quantize.ts';

export type QuantTensors = Tensors<QuantViews>;

/** A frozen linear weight in NF4, FP4 or blockwise int8, with bitsandbytes' bytes. Products dequantize on the way; nothing dense is kept. */
export class BlockwiseWeight implements LinearWeight {
  readonly quant: QuantTensors;
  readonly attrs: QuantAttrs;

  /** Takes over the tensors. `attrs.shape` is [out, in]. */
  constructor(quant: QuantTensors, attrs: QuantAttrs) {
    check(attrs.shape.length === 2, 'BlockwiseWeight', 'needs [out, in]', `[${attrs.shape}]`);
    this.quant = quant;
    this.attrs = attrs;
  }

  /** Quantizes values [out, in] (any float dtype; they stay the caller's). Defaults are QLoRA's: NF4, blocks of 64, double quantization. */
  static async quantize(values: Tensor, options: QuantizeOptions = {}): Promise<BlockwiseWeight> {
    check(values.rank === 2, 'quantize', 'needs a linear weight [out, in]', () => describe(values));
    const { quant, attrs } = await quantizeBlockwise(values, options);
    return new BlockwiseWeight(quant, attrs);
  }

  get format(): QuantType {
    return this.attrs.quantType;
  }

  get doubleQuant(): boolean {
    return this.quant.nestedAbsmax !== undefined;
  }

  get outFeatures(): number {
    return this.attrs.shape[0]!;
  }

  get inFeatures(): number {
    return this.attrs.shape[1]!;
  }

  get byteLength(): number {
    let sum = 0;
    for (const t of this.tensors().values()) sum += t.byteLength;
    return sum;
  }

  matmul(x: Tensor, options: { transposed?: boolean; c?: Tensor } = {}): Tensor {
    return quantMatmul(x, this.quant, this.attrs, options);
  }

  dequantize(dtype: FloatDType = 'f32'): Tensor {
    return dequantize(this.quant, { ...this.attrs, dtype });
  }

  async requantize(values: Tensor): Promise<LinearWeight> {
    check(
      values.shape[0] === this.outFeatures && values.shape[1] === this.inFeatures,
      'requantize',
      'shape differs',
      () => `${describe(values)} for [${this.attrs.shape}]`,
    );
    return BlockwiseWeight.quantize(values, {
      quantType: this.attrs.quantType,
      blockSize: this.attrs.blockSize,
      doubleQuant: this.doubleQuant,
    });
  }

  operand(): WeightOperand {
    return { quant: this.quant, attrs: this.attrs };
  }

  tensors(): ReadonlyMap<string, Tensor> {
    const { codes, absmax, codebook, nestedAbsmax, nestedCodebook, offset } = this.quant;
    const out = new Map<string, Tensor>([
      ['', codes],
      ['absmax', absmax],
      ['quant_map', codebook],
    ]);
    if (nestedAbsmax && nestedCodebook && offset)
      out.set('nested_absmax', nestedAbsmax).set('nested_quant_map', nestedCodebook).set('nested_offset', offset);
    return out;
  }

  dispose(): void {
    for (const t of this.tensors().values()) t.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
