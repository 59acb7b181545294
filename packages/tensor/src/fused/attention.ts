import { defineFused } from '../ops/call.ts';
import { binary, cast, matmul, reduce, select, unary } from '../ops/primitives.ts';
import { expand, permute, reshape, split } from '../ops/views.ts';
import type { Tensor } from '../tensor.ts';

/** u8 [B or 1, 1, Tq, Tk]: which keys a query sees. */
function mask(q: Tensor, k: Tensor, causal: boolean, starts?: Tensor, ends?: Tensor): Tensor | undefined {
  const [b, tq] = q.shape as [number, number, number, number];
  const tk = k.shape[1]!;
  const key = reshape(q.device.arange(tk), [1, 1, 1, tk]);
  const parts: Tensor[] = [];
  if (causal) parts.push(binary('le', key, reshape(q.device.arange(tq, { start: tk - tq }), [1, 1, tq, 1])));
  if (starts) parts.push(binary('ge', key, reshape(starts, [b, 1, tq, 1])));
  if (ends) parts.push(binary('lt', key, reshape(ends, [b, 1, tq, 1])));
  return parts.length ? parts.reduce((p, m) => binary('mul', p, m)) : undefined;
}

/** [B, T, H, D] to f32 [B, H, T, D]. */
const heads = (x: Tensor) => cast(permute(x, [0, 2, 1, 3]), 'f32');

/** Key heads repeated for their group of query heads: [B, Hkv, T, D] to [B, Hq, T, D]. */
function repeat(x: Tensor, hq: number): Tensor {
  const [b, h, t, d] = x.shape as [number, number, number, number];
  if (h === hq) return x;
  return reshape(expand(reshape(x, [b, h, 1, t, d]), [b, h, hq / h, t, d]), [b, hq, t, d]);
}

/** Sums over the query heads of a group: [B, Hq, T, D] to [B, T, Hkv, D]. */
function ungroup(x: Tensor, hkv: number): Tensor {
  const [b, h, t, d] = x.shape as [number, number, number, number];
  return permute(reduce('sum', reshape(x, [b, hkv, h / hkv, t, d]), 2), [0, 2, 1, 3]);
}

/** Masked, scaled scores f32 [B, Hq, Tq, Tk]; −∞ where a query does not see a key. */
function scores(
  q: Tensor,
  k: Tensor,
  attrs: { scale: number; causal: boolean },
  starts?: Tensor,
  ends?: Tensor,
): Tensor {
  const s = matmul(heads(q), repeat(heads(k), q.shape[2]!).transpose(), { alpha: attrs.scale });
  const seen = mask(q, k, attrs.causal, starts, ends);
  return seen ? select(seen, s, q.device.full([1, 1, 1, 1], -Infinity)) : s;
}

const attentionBackward = defineFused({
  name: 'attentionBackward',
  cost: 'expensive',
  // P = exp(s − lse), Δ = Σ dy·y, dv = Pᵀ·dy, dS = P∘(dy·vᵀ − Δ), dq = scale·dS·k, dk = scale·dSᵀ·q
  decompose: ({ dy, q, k, v, y, lse, starts, ends }, attrs) => {
    const hq = q.shape[2]!;
    const hkv = k.shape[2]!;
    const blind = binary('eq', lse, q.device.full([1, 1, 1], -Infinity)); // queries that see no key
    const safe = reshape(select(blind, q.device.zeros([1, 1, 1]), lse), [...lse.shape, 1]);
    const p = scores(q, k, attrs, starts, ends).sub(safe).exp();
    const g = heads(dy);
    const delta = reduce('sum', g.mul(heads(y)), -1, true);
    const ds = p.mul(matmul(g, repeat(heads(v), hq).transpose()).sub(delta));
    return {
      dq: cast(permute(matmul(ds, repeat(heads(k), hq), { alpha: attrs.scale }), [0, 2, 1, 3]), q.dtype).contiguous(),
      dk: cast(ungroup(matmul(ds.transpose(), heads(q), { alpha: attrs.scale }), hkv), k.dtype).contiguous(),
      dv: cast(ungroup(matmul(p.transpose(), g), hkv), v.dtype).contiguous(),
    };
  },
  rule: 'none',
});

/** Places for the gradients of queries, keys and values as heads of one buffer: where the three are parts of one projection, it is theirs. */
function sideBySide(q: Tensor, k: Tensor, v: Tensor): { into?: Record<string, Tensor> } {
  const sizes = [q, k, v].map((t) => t.shape[2]!);
  const [b, t, , d] = q.shape as [number, number, number, number];
  if (k.shape[1] !== t || k.dtype !== q.dtype || v.dtype !== q.dtype) return {};
  const joint = q.device.empty([b, t, sizes.reduce((n, h) => n + h, 0), d], q.dtype);
  const [dq, dk, dv] = split(joint, sizes, 2) as [Tensor, Tensor, Tensor];
  joint.dispose();
  return { into: { dq, dk, dv } };
}

const attentionOp = defineFused({
  name: 'attention',
  cost: 'expensive',
  decompose: ({ q, k, v, starts, ends }, attrs) => {
    const s = scores(q, k, attrs, starts, ends);
    const top = reduce('max', s, -1, true).detach();
    const blind = binary('eq', top, q.device.full([1, 1, 1, 1], -Infinity));
    const shift = select(blind, q.device.zeros([1, 1, 1, 1]), top);
    const e = s.sub(shift).exp();
    const sum = reduce('sum', e, -1, true);
    const one = select(blind, q.device.full([1, 1, 1, 1], 1), sum);
    const y = matmul(e.div(one), repeat(heads(v), q.shape[2]!));
    const lse = unary('log', sum).add(shift);
    return { y: cast(permute(y, [0, 2, 1, 3]), q.dtype).contiguous(), lse: reshape(lse, lse.shape.slice(0, 3)) };
  },
  rule: {
    saves: (_needs, _attrs, has) => ['q', 'k', 'v', 'y', 'lse', 'starts', 'ends'].filter(has),
    vjp: ({ grad, saved, has, attrs }) => {
      const read = (name: string) => (has(name) ? { [name]: saved(name) } : {});
      const { dq, dk, dv } = attentionBackward(
        {
          dy: grad('y')!,
          q: saved('q'),
          k: saved('k'),
          v: saved('v'),
          y: saved('y'),
          lse: saved('lse'),
          ...read('starts'),
          ...read('ends'),
        },
        attrs,
        sideBySide(saved('q'), saved('k'), saved('v')),
      );
      return { q: dq, k: dk, v: dv };
    },
  },
});

export interface AttentionOptions {
  /** Factor on the scores; 1/√D by default. */
  readonly scale?: number;
  /** Query i sees keys up to i + Tk − Tq. True by default. */
  readonly causal?: boolean;
  /** i32 [B, Tq]: first key that a query sees (packing, sliding windows). */
  readonly starts?: Tensor | undefined;
  /** i32 [B, Tq]: one past the last key that a query sees (padding). */
  readonly ends?: Tensor | undefined;
}

/** softmax(scale · q·kᵀ)·v. q [B, Tq, Hq, D], k and v [B, Tk, Hkv, D], Hq a multiple of Hkv; y like q. The score matrix is never stored. */
export function attention(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions = {}): Tensor {
  const { starts, ends, causal = true, scale = 1 / Math.sqrt(q.shape[3]!) } = options;
  const { y, lse } = attentionOp(
    { q, k, v, ...(starts ? { starts } : {}), ...(ends ? { ends } : {}) },
    { scale, causal },
  );
  lse.dispose();
  return y;
}
