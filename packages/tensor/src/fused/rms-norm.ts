import { defineFused } from '../ops/call.ts';
import { cast, reduce, unary } from '../ops/primitives.ts';
import { reshape, unbroadcast } from '../ops/views.ts';
import type { Tensor } from '../tensor.ts';

const rmsNormBackward = defineFused({
  name: 'rmsNormBackward',
  cost: 'cheap',
  // x̂ = x·rstd, g = dy·weight, dx = rstd·(g − x̂·mean(g·x̂)), dweight = Σ dy·x̂
  decompose: ({ dy, x, weight, rstd }, { needWeight }) => {
    const r = reshape(rstd, [...rstd.shape, 1]);
    const xhat = cast(x, 'f32').mul(r);
    const dy32 = cast(dy, 'f32');
    const g = dy32.mul(cast(weight, 'f32'));
    const dx = cast(g.sub(xhat.mul(g.mul(xhat).mean(-1, true))).mul(r), dy.dtype);
    return { dx, dweight: needWeight ? unbroadcast(dy32.mul(xhat), weight.shape) : undefined };
  },
  rule: 'none',
});

const rmsNormOp = defineFused({
  name: 'rmsNorm',
  cost: 'cheap',
  decompose: ({ x, weight }, { eps }) => {
    const x32 = cast(x, 'f32');
    const rstd = unary('rsqrt', unary('affine', reduce('sumSquares', x32, -1), 1 / x.shape[x.rank - 1]!, eps));
    return { y: cast(x32.mul(reshape(rstd, [...rstd.shape, 1])).mul(cast(weight, 'f32')), x.dtype), rstd };
  },
  rule: {
    saves: () => ['x', 'weight', 'rstd'],
    vjp: ({ grad, saved, needs, spec, spare }) => {
      const over = spare('y');
      const { dx, dweight } = rmsNormBackward(
        { dy: grad('y')!, x: saved('x'), weight: saved('weight'), rstd: saved('rstd') },
        { needWeight: needs('weight') },
        over ? { into: { dx: over } } : {},
      );
      return { x: dx, weight: dweight && cast(dweight, spec('weight').dtype) };
    },
  },
});

/** x / √(mean(x²) + eps) · weight over the last axis. x […, D], weight [D]. */
export function rmsNorm(x: Tensor, weight: Tensor, eps: number): Tensor {
  const { y, rstd } = rmsNormOp({ x, weight }, { eps });
  rstd.dispose();
  return y;
}
