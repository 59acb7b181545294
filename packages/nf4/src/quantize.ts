import {
  check,
  codebooks,
  type Device,
  defineFused,
  describe,
  dynamicMap,
  keep,
  LowrankError,
  nestedBlockSize,
  type QuantAttrs,
  type QuantType,
  reshape,
  Scope,
  type Tensor,
} from '@lowrank/tensor';
import { torchMean } from './mean.ts';
import type { QuantTensors } from './weight.ts';

export interface QuantizeOptions {
  /** `nf4` by default. */
  readonly quantType?: QuantType;
  /** Elements that share a scale: a power of two from 32 to 4,096; 64 by default. */
  readonly blockSize?: number;
  /** Quantize the scales as well, 256 to a block, to 8 bits. True by default. */
  readonly doubleQuant?: boolean;
}

const quantizeOp = defineFused({
  name: 'quantize',
  cost: 'expensive',
  decompose: () => {
    throw new LowrankError(
      'quantize',
      'the backend has no kernel for it, and primitives cannot give its exact bytes',
      '',
      'Implement the fused op quantize, or load a checkpoint that is quantized already',
    );
  },
  rule: 'none',
});

/** A codebook as f32 on the device. */
function book(device: Device, values: readonly number[]): Tensor {
  return device.tensor(Float32Array.from(values));
}

/**
 * Quantizes a tensor blockwise over its row-major elements, with the very bytes that bitsandbytes makes on a CPU. The scales' mean is taken
 * on the host, since its bits depend on PyTorch's order of summation; everything else runs on the device.
 */
export async function quantizeBlockwise(
  values: Tensor,
  options: QuantizeOptions = {},
): Promise<{ quant: QuantTensors; attrs: QuantAttrs }> {
  const { quantType = 'nf4', blockSize = 64, doubleQuant = true } = options;
  check(values.size > 0, 'quantize', 'nothing to quantize', () => describe(values));
  const { device } = values;
  const attrs: QuantAttrs = { quantType, blockSize, shape: [...values.shape] };
  const { codes, absmax, codebook } = device.withClass('weights', () => {
    using s = new Scope();
    const rows = values.detach().contiguous();
    const codebook = book(device, codebooks[quantType]);
    const { codes, absmax } = quantizeOp({ x: rows, codebook }, { quantType, blockSize });
    return s.detach({ codes, absmax, codebook });
  });
  if (!doubleQuant) return { quant: { codes, absmax, codebook }, attrs };
  const mean = torchMean((await absmax.toArray()) as Float32Array);
  return device.withClass('weights', () => {
    const offset = keep(device.tensor([mean]));
    const nestedCodebook = keep(book(device, dynamicMap));
    using flat = reshape(absmax, [-1]);
    const nested = keep(
      quantizeOp({ x: flat, codebook: nestedCodebook, offset }, { quantType: 'int8', blockSize: nestedBlockSize }),
    );
    absmax.dispose();
    return {
      quant: { codes, absmax: nested.codes, codebook, nestedAbsmax: nested.absmax, nestedCodebook, offset },
      attrs,
    };
  });
}
