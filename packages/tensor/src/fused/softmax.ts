import { defineFused } from '../ops/call.ts';
import type { Tensor } from '../tensor.ts';

const softmaxBackwardOp = defineFused({
  name: 'softmaxBackward',
  cost: 'cheap',
  // dx = y · (dy − Σ dy·y)
  decompose: ({ dy, y }) => ({ dx: y.mul(dy.sub(dy.mul(y).sum(-1, true))) }),
  rule: 'none',
});

const softmaxOp = defineFused({
  name: 'softmax',
  cost: 'cheap',
  decompose: ({ x }) => {
    const e = x.sub(x.max(-1, true).detach()).exp();
    return { y: e.div(e.sum(-1, true)) };
  },
  rule: {
    saves: () => ['y'],
    vjp: ({ grad, saved }) => ({ x: softmaxBackwardOp({ dy: grad('y')!, y: saved('y') }, {}).dx }),
  },
});

/** exp(x − max x) / Σ exp(x − max x) over the last axis. */
export function softmax(x: Tensor): Tensor {
  return softmaxOp({ x }, {}).y;
}
