import { defineContract } from '../common/contract.ts';
import { isFloat } from '../common/dtype.ts';
import { check } from '../common/error.ts';
import { describe, sameShape, specOf, type View } from '../common/view.ts';

/**
 * Rotary position embedding (Su et al. 2021), half-rotation form as in Hugging Face checkpoints. x [B, T, H, D]; cos and sin f32 [P, R/2]
 * with rotary width R ≤ D; positions i32 [B, T] in [0, P). For i < R/2: y[i] = x[i]·c − x[i+R/2]·s, y[i+R/2] = x[i+R/2]·c + x[i]·s;
 * the rest is copied. `inverse` uses −s: it is the backward pass. With `heads` the first ones turn and the others are copied: values that
 * lie behind queries and keys of a joint projection.
 */
export interface Rope {
  inputs: { x: View; cos: View; sin: View; positions: View };
  outputs: { y: View };
  attrs: { inverse: boolean; heads?: number };
}

export const rope = defineContract<Rope>({
  name: 'rope',
  inplace: [['y', 'x']],
  infer: ({ x, cos, sin, positions }, { heads = 0 }) => {
    const facts = () => `x ${describe(x)}, cos ${describe(cos)}, positions ${describe(positions)}`;
    check(isFloat(x.dtype) && x.shape.length === 4, 'rope', 'x must be floats [B, T, H, D]', facts);
    check(
      cos.dtype === 'f32' &&
        sin.dtype === 'f32' &&
        cos.shape.length === 2 &&
        sameShape(cos.shape, sin.shape) &&
        2 * cos.shape[1]! <= x.shape[3]!,
      'rope',
      'cos and sin must be f32 [P, R/2] with R ≤ D',
      facts,
    );
    check(
      positions.dtype === 'i32' && sameShape(positions.shape, x.shape.slice(0, 2)),
      'rope',
      'positions must be i32 [B, T]',
      facts,
    );
    check(
      heads >= 0 && heads <= x.shape[2]!,
      'rope',
      'no more heads turn than there are',
      () => `${heads}, ${facts()}`,
    );
    return { y: specOf(x.shape, x.dtype) };
  },
});
