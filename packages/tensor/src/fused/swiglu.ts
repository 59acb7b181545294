import { defineFused } from '../ops/call.ts';
import { cast, unary } from '../ops/primitives.ts';
import { concat, slice } from '../ops/views.ts';
import type { Tensor } from '../tensor.ts';

const swigluBackward = defineFused({
  name: 'swigluBackward',
  cost: 'cheap',
  // s = σ(gate); dgate = dy·up·s·(1 + gate·(1 − s)), dup = dy·gate·s
  decompose: ({ dy, x }) => {
    const f = dy.shape[dy.rank - 1]!;
    const gate = cast(slice(x, -1, 0, f), 'f32');
    const up = cast(slice(x, -1, f), 'f32');
    const g = cast(dy, 'f32');
    const s = unary('sigmoid', gate);
    const dgate = g.mul(up).mul(s.mul(gate.mul(s.affine(-1, 1)).affine(1, 1)));
    return { dx: concat([cast(dgate, dy.dtype), cast(g.mul(gate.mul(s)), dy.dtype)], -1) };
  },
  rule: 'none',
});

const swigluOp = defineFused({
  name: 'swiglu',
  cost: 'cheap',
  decompose: ({ x }) => {
    const f = x.shape[x.rank - 1]! / 2;
    const y = cast(slice(x, -1, 0, f), 'f32')
      .silu()
      .mul(cast(slice(x, -1, f), 'f32'));
    return { y: cast(y, x.dtype) };
  },
  rule: {
    saves: () => ['x'],
    vjp: ({ grad, saved, spare }) => {
      const dy = grad('y')!;
      const x = saved('x');
      // dx may lie over x, which nothing reads after this
      const over = spare('x')?.dtype === dy.dtype ? { into: { dx: x } } : {};
      return { x: swigluBackward({ dy, x }, {}, over).dx };
    },
  },
});

/** silu(gate) · up, where x […, 2F] holds gate and up side by side. */
export function swiglu(x: Tensor): Tensor {
  return swigluOp({ x }, {}).y;
}
