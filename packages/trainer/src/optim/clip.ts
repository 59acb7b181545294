import { binary, concat, noGrad, reduce, reshape, scope, type Tensor } from '@lowrank/tensor';
import type { Parameters } from './parameters.ts';

/** Without gradients, and leaving nothing but the result. */
const pure = (f: () => Tensor): Tensor => noGrad(() => scope(f));

/** The global norm of all gradients, f32 [1], on the device: √Σ g². */
export function gradientNorm({ flatGrad, units }: Parameters): Tensor {
  return pure(() => {
    const squares = flatGrad
      ? [flatGrad.reduce('sumSquares')]
      : units.map(({ grad }) => reduce('sumSquares', grad, undefined, false, 'f32'));
    const rows = squares.map((s) => reshape(s, [1]));
    return (rows.length === 1 ? rows[0]! : concat(rows, 0).sum(0, true)).unary('sqrt');
  });
}

/** What gradients must be multiplied by so that their norm is at most `max`: min(1, max / (norm + 10⁻⁶)), as PyTorch clips. f32 [1]. */
export function clipScale(norm: Tensor, max: number): Tensor {
  const { device } = norm;
  return pure(() => binary('min', device.full([1], max).div(norm.add(1e-6)), device.full([1], 1)));
}
