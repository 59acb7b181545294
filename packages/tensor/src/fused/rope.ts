import { defineFused, type FusedFunction } from '../ops/call.ts';
import { cast, gather } from '../ops/primitives.ts';
import { concat, reshape, slice, split } from '../ops/views.ts';
import type { Tensor } from '../tensor.ts';

const ropeOp: FusedFunction<'rope'> = defineFused({
  name: 'rope',
  // Of a joint projection all that the backward pass reads is here: kept, it stands in for the projection.
  cost: ({ heads }) => (heads === undefined ? 'cheap' : 'expensive'),
  decompose: ({ x, cos, sin, positions }, { inverse, heads }) => {
    if (heads !== undefined && heads < x.shape[2]!) {
      const [turned, rest] = split(x, [heads, x.shape[2]! - heads], 2) as [Tensor, Tensor];
      return { y: concat([ropeOp({ x: turned, cos, sin, positions }, { inverse }).y, rest], 2) };
    }
    const half = cos.shape[1]!;
    const at = [...positions.shape, 1, half];
    const c = reshape(gather(cos, positions), at);
    const s = reshape(gather(sin, positions), at).mul(inverse ? -1 : 1);
    const x1 = cast(slice(x, 3, 0, half), 'f32');
    const x2 = cast(slice(x, 3, half, 2 * half), 'f32');
    const turned = [x1.mul(c).sub(x2.mul(s)), x2.mul(c).add(x1.mul(s))].map((t) => cast(t, x.dtype));
    return { y: concat(2 * half < x.shape[3]! ? [...turned, slice(x, 3, 2 * half)] : turned, 3) };
  },
  rule: {
    saves: () => ['cos', 'sin', 'positions'],
    vjp: ({ grad, saved, spare, attrs }) => {
      const g = grad('y')!;
      const over = spare('y') ? { into: { y: g } } : {};
      const { y } = ropeOp(
        { x: g, cos: saved('cos'), sin: saved('sin'), positions: saved('positions') },
        { ...attrs, inverse: !attrs.inverse },
        over,
      );
      return { x: y };
    },
  },
});

/**
 * Rotates x [B, T, H, D] by its positions i32 [B, T]; cos and sin f32 [P, R/2] rotate the first R ≤ D elements (half-rotation form). With
 * `heads` only the first ones turn: queries and keys of a joint projection, not its values.
 */
export function rope(
  x: Tensor,
  cos: Tensor,
  sin: Tensor,
  positions: Tensor,
  { heads }: { heads?: number | undefined } = {},
): Tensor {
  return ropeOp({ x, cos, sin, positions }, { inverse: false, ...(heads === undefined ? {} : { heads }) }).y;
}
