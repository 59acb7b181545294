import { defineContract } from '../common/contract.ts';
import { isFloat } from '../common/dtype.ts';
import { check } from '../common/error.ts';
import { describe, sameShape, specOf, type View } from '../common/view.ts';

/**
 * loss[n] = lse(logits[n,:]) − logits[n, labels[n]], 0 where labels[n] = −100. With `gradient`:
 * dlogits[n,:] = scale[0] · (softmax(logits[n,:]) − onehot(labels[n])), 0 where ignored; it may lie over logits. scale is 1 where absent.
 * logits [N, V], labels i32 [N], scale f32 [1], loss f32 [N], dlogits of the logits' dtype. f32 inside.
 */
export interface CrossEntropy {
  inputs: { logits: View; labels: View; scale?: View };
  outputs: { loss: View; dlogits?: View };
  attrs: { gradient: boolean };
}

export const crossEntropy = defineContract<CrossEntropy>({
  name: 'crossEntropy',
  inplace: [['dlogits', 'logits']],
  infer: ({ logits, labels, scale }, { gradient }) => {
    check(
      isFloat(logits.dtype) && logits.shape.length === 2 && logits.shape[1]! > 0,
      'crossEntropy',
      'logits must be floats [N, V]',
      () => describe(logits),
    );
    check(
      labels.dtype === 'i32' && sameShape(labels.shape, logits.shape.slice(0, 1)),
      'crossEntropy',
      'labels must be i32 [N]',
      () => `logits ${describe(logits)}, labels ${describe(labels)}`,
    );
    check(!scale || (scale.dtype === 'f32' && sameShape(scale.shape, [1])), 'crossEntropy', 'scale must be f32 [1]');
    return { loss: specOf(labels.shape, 'f32'), dlogits: gradient ? specOf(logits.shape, logits.dtype) : undefined };
  },
});
