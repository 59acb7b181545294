import type { QuantAttrs, QuantViews } from '@lowrank/kernels';
import { defineFused, type FusedFunction, type Tensors } from '../ops/call.ts';
import { binary, cast, gather, matmul } from '../ops/primitives.ts';
import { concat, expand, reshape, slice, transpose } from '../ops/views.ts';
import type { Tensor } from '../tensor.ts';

const nestedBlock = 256;

/** Rows of `scales` [n], each repeated for its block, cut to `length`. */
function repeatBlocks(scales: Tensor, block: number, length: number): Tensor {
  const n = scales.shape[0]!;
  return slice(reshape(expand(reshape(scales, [n, 1]), [n, block]), [n * block]), 0, 0, length);
}

/** 4-bit codes (first in the high nibble) or 8-bit ones as i32 [length]. */
function unpack(codes: Tensor, bits: 4 | 8, length: number): Tensor {
  const bytes = cast(codes, 'u32');
  if (bits === 8) return cast(bytes, 'i32');
  const four = codes.device.full([1], 4, 'u32');
  const high = reshape(binary('shiftRight', bytes, four), [-1, 1]);
  const low = reshape(binary('and', bytes, codes.device.full([1], 15, 'u32')), [-1, 1]);
  return slice(reshape(cast(concat([high, low], 1), 'i32'), [-1]), 0, 0, length);
}

const dequantizeOp = defineFused({
  name: 'dequantize',
  cost: 'cheap',
  decompose: ({ weight }, { quantType, blockSize, shape, dtype }) => {
    const n = shape.reduce((p, d) => p * d, 1);
    const blocks = Math.ceil(n / blockSize);
    const look = (book: Tensor, ids: Tensor) => reshape(gather(reshape(book, [-1, 1]), ids), [-1]);
    const { absmax, nestedAbsmax, nestedCodebook, offset } = weight;
    let scale = reshape(absmax, [-1]);
    if (nestedAbsmax && nestedCodebook && offset)
      scale = look(nestedCodebook, cast(scale, 'i32'))
        .mul(repeatBlocks(reshape(nestedAbsmax, [-1]), nestedBlock, blocks))
        .add(reshape(offset, [1]));
    const values = look(weight.codebook, unpack(reshape(weight.codes, [-1]), quantType === 'int8' ? 8 : 4, n));
    return { y: cast(reshape(values.mul(repeatBlocks(scale, blockSize, n)), shape), dtype) };
  },
  rule: 'none',
});

/** The values of a blockwise-quantized tensor. */
export function dequantize(weight: Tensors<QuantViews>, attrs: Parameters<typeof dequantizeOp>[1]): Tensor {
  return dequantizeOp({ weight }, attrs).y;
}

const quantMatmulOp: FusedFunction<'quantMatmul'> = defineFused({
  name: 'quantMatmul',
  cost: 'expensive',
  decompose: ({ x, weight, c }, { transposed, ...attrs }) => {
    const w = dequantize(weight, { ...attrs, dtype: x.dtype as never });
    const y = matmul(x, transposed ? w : transpose(w), { dtype: x.dtype as never, ...(c ? { c } : {}) });
    w.dispose();
    return { y };
  },
  rule: {
    // dx = dy·W, the same product the other way round; the weight has no gradient
    saves: (needs, _, has) =>
      needs('x')
        ? ['codes', 'absmax', 'codebook', 'nestedAbsmax', 'nestedCodebook', 'offset']
            .map((n) => `weight.${n}`)
            .filter(has)
        : [],
    vjp: ({ attrs, grad, saved, needs, has }) => {
      const dy = grad('y')!;
      const names = ['codes', 'absmax', 'codebook', 'nestedAbsmax', 'nestedCodebook', 'offset'].filter((n) =>
        has(`weight.${n}`),
      );
      return {
        x: needs('x')
          ? quantMatmulOp(
              { x: dy, weight: Object.fromEntries(names.map((n) => [n, saved(`weight.${n}`)])) as never },
              { ...attrs, transposed: !attrs.transposed },
            ).y
          : undefined,
        c: needs('c') ? dy : undefined,
      };
    },
  },
});

/** x·Wᵀ + c (or x·W with `transposed`) for a quantized W; differentiable in x and c. */
export function quantMatmul(
  x: Tensor,
  weight: Tensors<QuantViews>,
  attrs: QuantAttrs,
  options: { transposed?: boolean; c?: Tensor } = {},
): Tensor {
  const { transposed = false, c } = options;
  return quantMatmulOp({ x, weight, ...(c ? { c } : {}) }, { ...attrs, transposed }).y;
}
