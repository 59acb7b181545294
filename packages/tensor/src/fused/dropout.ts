import { check } from '@lowrank/kernels';
import { defineFused, type FusedFunction } from '../ops/call.ts';
import { binary, cast, select, unary } from '../ops/primitives.ts';
import type { Tensor } from '../tensor.ts';

const dropoutOp: FusedFunction<'dropout'> = defineFused({
  name: 'dropout',
  cost: 'cheap',
  decompose: ({ x, seed }, { p, site }) => {
    const u = x.device.random(x.shape, { seed, site, distribution: 'uniform' });
    const kept = binary('ge', u, x.device.full([1], p));
    return { y: cast(select(kept, unary('affine', cast(x, 'f32'), 1 / (1 - p), 0), x.device.zeros([1])), x.dtype) };
  },
  rule: {
    saves: () => ['seed'],
    vjp: ({ grad, saved, attrs }) => ({ x: dropoutOp({ x: grad('y')!, seed: saved('seed') }, attrs).y }),
  },
});

/**
 * Sets elements to 0 with probability p and scales the rest by 1/(1 − p). The mask is a function of `seed` (u32 [4]; see `Device.seed`),
 * `site` (one integer a place in the model) and the element's index: the same on every backend, and never stored.
 */
export function dropout(x: Tensor, p: number, seed: Tensor, site: number): Tensor {
  check(p >= 0 && p < 1, 'dropout', 'p must be in [0, 1)', String(p));
  return p === 0 ? x.expand(x.shape) : dropoutOp({ x, seed }, { p, site }).y;
}
