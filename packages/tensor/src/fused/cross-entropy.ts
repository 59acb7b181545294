import { check, describe, type FloatDType } from '@lowrank/kernels';
import { collectGradients } from '../autograd/backward.ts';
import { gradEnabled, noGrad, withGrad } from '../autograd/mode.ts';
import { connect, Node, tracked } from '../autograd/node.ts';
import { defineFused } from '../ops/call.ts';
import { binary, cast, reduce, select } from '../ops/primitives.ts';
import { copyInto } from '../ops/raw.ts';
import { reshape, slice } from '../ops/views.ts';
import { Scope } from '../scope.ts';
import type { Tensor } from '../tensor.ts';

const crossEntropyOp = defineFused({
  name: 'crossEntropy',
  cost: 'expensive',
  decompose: ({ logits, labels, scale }, { gradient }) => {
    const [n, v] = logits.shape as [number, number];
    const { device } = logits;
    const x = cast(logits, 'f32');
    const shifted = x.sub(reduce('max', x, -1, true).detach());
    const lse = reduce('sum', shifted.exp(), -1, true).log();
    const counted = binary('ne', reshape(labels, [n, 1]), device.full([1, 1], -100, 'i32'));
    const column = reshape(device.arange(v), [1, v]);
    const hit = binary('eq', column, reshape(labels, [n, 1]));
    const own = reduce('sum', select(hit, shifted, device.zeros([1, 1])), -1, true);
    const loss = select(counted, lse.sub(own), device.zeros([1, 1]));
    if (!gradient) return { loss: reshape(loss, [n]), dlogits: undefined };
    const p = shifted.sub(lse).exp();
    const d = select(counted, p.sub(cast(hit, 'f32')), device.zeros([1, 1]));
    return { loss: reshape(loss, [n]), dlogits: cast(scale ? d.mul(reshape(scale, [1, 1])) : d, logits.dtype) };
  },
  rule: {
    // the gradient was made in the forward pass
    saves: () => ['dlogits'],
    vjp: ({ grad, saved, spec }) => {
      const d = saved('dlogits');
      return { logits: cast(cast(d, 'f32').mul(reshape(grad('loss')!, [spec('loss').shape[0]!, 1])), d.dtype) };
    },
  },
});

/** −ln softmax(logits)[label] of each row, 0 where the label is −100. logits [N, V], labels i32 [N]; loss f32 [N]. */
export function crossEntropy(logits: Tensor, labels: Tensor): Tensor {
  const gradient = gradEnabled() && tracked(logits);
  const { loss, dlogits } = crossEntropyOp({ logits, labels }, { gradient });
  dlogits?.dispose();
  return loss;
}

export interface LinearCrossEntropyOptions {
  /** f32 [1]: factor of every row's loss, for instance 1 / (tokens that count). 1 where absent. */
  readonly scale?: Tensor | undefined;
  /** Rows whose logits exist at a time. */
  readonly chunkRows?: number;
}

/**
 * Σ rows scale · crossEntropy(head(hidden), labels), a scalar f32, without ever holding all logits: rows are taken in chunks, and the
 * gradients of the hidden states and of every leaf under `head` are made in the forward pass (only those that are wanted).
 * hidden [N, K], labels i32 [N]; `head` maps rows [n, K] to logits [n, V].
 */
export function linearCrossEntropy(
  hidden: Tensor,
  head: (rows: Tensor) => Tensor,
  labels: Tensor,
  options: LinearCrossEntropyOptions = {},
): Tensor {
  const { scale, chunkRows = 256 } = options;
  check(
    hidden.rank === 2 && labels.rank === 1 && labels.shape[0] === hidden.shape[0],
    'linearCrossEntropy',
    'hidden must be [N, K], labels [N]',
    () => `${describe(hidden)}, ${describe(labels)}`,
  );
  const { device } = hidden;
  const n = hidden.shape[0]!;
  const train = gradEnabled();
  const wantHidden = train && tracked(hidden);
  const total = device.zeros([1]);
  const dHidden = wantHidden ? device.empty(hidden.shape, hidden.dtype) : undefined;
  const leafGrads = new Map<Tensor, Tensor>();
  for (let at = 0; at < n; at += chunkRows) {
    const end = Math.min(n, at + chunkRows);
    using _ = new Scope();
    const rows = noGrad(() => slice(hidden, 0, at, end).contiguous()).requireGrad(wantHidden);
    const own = noGrad(() => slice(labels, 0, at, end));
    const logits = withGrad(train, () => head(rows));
    const gradient = tracked(logits);
    noGrad(() => {
      // dlogits lies over the logits: nothing else reads them
      const { loss, dlogits } = crossEntropyOp(
        { logits, labels: own, ...(scale ? { scale } : {}) },
        { gradient },
        gradient && logits.isContiguous ? { into: { dlogits: logits } } : {},
      );
      const sum = reduce('sum', loss, 0, true);
      copyInto(binary('add', total, scale ? sum.mul(scale) : sum), total);
      if (!gradient || !dlogits) return;
      const found = collectGradients(logits, dlogits, leafGrads);
      const d = found.get(rows);
      if (d && dHidden) copyInto(d.dtype === dHidden.dtype ? d : cast(d, dHidden.dtype), slice(dHidden, 0, at, end));
      d?.dispose();
      found.delete(rows);
    });
  }
  const result = reshape(total, []);
  total.dispose();
  const inputs = [...(dHidden ? [hidden] : []), ...leafGrads.keys()];
  if (inputs.length) {
    const made = [...(dHidden ? [dHidden] : []), ...leafGrads.values()];
    const node = new Node('linearCrossEntropy', inputs, [result], made, ([g], saved) =>
      saved.map((d) =>
        d.mul(
          cast(
            reshape(
              g!,
              d.shape.map(() => 1),
            ),
            d.dtype as FloatDType,
          ),
        ),
      ),
    );
    connect(node, [result]);
  }
  dHidden?.dispose();
  for (const g of leafGrads.values()) g.dispose();
  return result;
}
