import { bytesOf, check, contiguousStrides, describe, isContiguous, sameShape } from '@lowrank/kernels';
import { gradEnabled } from '../autograd/mode.ts';
import { connect, Node, tracked } from '../autograd/node.ts';
import { axisOf, reshapeStrides, resolveShape } from '../shape.ts';
import { Tensor } from '../tensor.ts';
import { primitive, type Rule } from './call.ts';
import { copyInto, fillInto } from './raw.ts';

/** Views share memory: no kernel runs. Their derivative rules are copies and views as well. */
function view(
  name: string,
  x: Tensor,
  shape: readonly number[],
  strides: readonly number[],
  byteOffset: number,
  vjp: (g: Tensor) => Tensor,
): Tensor {
  const y = new Tensor(x.storage.retain(), x.dtype, shape, strides, byteOffset);
  if (gradEnabled() && tracked(x)) connect(new Node(name, [x], [y], [], ([g]) => [g && vjp(g)]), [y]);
  return y;
}

export const copyRule: Rule<never> = { saves: () => [], vjp: (c) => ({ x: c.grad('y') }) };

export function contiguous(x: Tensor): Tensor {
  if (isContiguous(x)) return view('contiguous', x, x.shape, x.strides, x.byteOffset, (g) => g);
  return primitive('copy', copyRule as never, { x }, {}).y;
}

export function reshape(x: Tensor, to: readonly number[]): Tensor {
  const shape = resolveShape(x.size, to);
  const strides = isContiguous(x) ? contiguousStrides(shape) : reshapeStrides(x.shape, x.strides, shape);
  if (!strides) {
    const copy = contiguous(x);
    const y = reshape(copy, shape);
    copy.dispose();
    return y;
  }
  return view('reshape', x, shape, strides, x.byteOffset, (g) => reshape(g, x.shape));
}

export function permute(x: Tensor, axes: readonly number[]): Tensor {
  const order = axes.map((a) => axisOf(a, x.rank, 'permute'));
  check(
    order.length === x.rank && new Set(order).size === x.rank,
    'permute',
    'needs every axis once',
    () => `[${axes}] of ${describe(x)}`,
  );
  const inverse = order.map((_, i) => order.indexOf(i));
  return view(
    'permute',
    x,
    order.map((a) => x.shape[a]!),
    order.map((a) => x.strides[a]!),
    x.byteOffset,
    (g) => permute(g, inverse),
  );
}

export function transpose(x: Tensor, a = -2, b = -1): Tensor {
  const order = x.shape.map((_, i) => i);
  const i = axisOf(a, x.rank, 'transpose');
  const j = axisOf(b, x.rank, 'transpose');
  [order[i], order[j]] = [order[j]!, order[i]!];
  return permute(x, order);
}

/** A window on an axis, without recording. */
function window(x: Tensor, axis: number, start: number, length: number): Tensor {
  return new Tensor(
    x.storage.retain(),
    x.dtype,
    x.shape.map((d, i) => (i === axis ? length : d)),
    x.strides,
    x.byteOffset + start * x.strides[axis]! * bytesOf[x.dtype],
  );
}

export function slice(x: Tensor, axis: number, start: number, end = x.shape[axisOf(axis, x.rank, 'slice')]!): Tensor {
  const a = axisOf(axis, x.rank, 'slice');
  const n = x.shape[a]!;
  const from = start < 0 ? start + n : start;
  const to = end < 0 ? end + n : end;
  check(
    from >= 0 && from <= to && to <= n,
    'slice',
    'out of range',
    () => `[${start}, ${end}) of axis ${axis}, ${describe(x)}`,
  );
  return view(
    'slice',
    x,
    x.shape.map((d, i) => (i === a ? to - from : d)),
    x.strides,
    x.byteOffset + from * x.strides[a]! * bytesOf[x.dtype],
    (g) => {
      const dx = fillInto(g.device.empty(x.shape, g.dtype), 0);
      using part = window(dx, a, from, to - from);
      copyInto(g, part);
      return dx;
    },
  );
}

/** The row-major tensor that consecutive parts along an axis are windows of, if they are all of it. */
function joined(parts: readonly (Tensor | undefined)[], shape: readonly number[], axis: number): Tensor | undefined {
  const first = parts[0];
  if (!first) return undefined;
  const strides = contiguousStrides(shape);
  let at = first.byteOffset;
  for (const p of parts) {
    if (!p || p.storage !== first.storage || p.dtype !== first.dtype || p.byteOffset !== at) return undefined;
    if (p.strides.some((s, i) => s !== strides[i])) return undefined;
    at += p.shape[axis]! * strides[axis]! * bytesOf[p.dtype];
  }
  return new Tensor(first.storage.retain(), first.dtype, shape, strides, first.byteOffset);
}

/** Consecutive parts along an axis; their gradients are laid side by side in one buffer. */
export function split(x: Tensor, sizes: readonly number[], axis = -1): Tensor[] {
  const a = axisOf(axis, x.rank, 'split');
  check(
    sizes.reduce((p, d) => p + d, 0) === x.shape[a],
    'split',
    'sizes must add up to the axis',
    () => `[${sizes}] of axis ${axis}, ${describe(x)}`,
  );
  let at = 0;
  const parts = sizes.map((size) => {
    const part = window(x, a, at, size);
    at += size;
    return part;
  });
  if (gradEnabled() && tracked(x)) {
    const { shape, dtype, device } = x;
    connect(
      new Node('split', [x], parts, [], (grads) => {
        const whole = joined(grads, shape, a);
        if (whole) return [whole];
        const dx = device.empty(shape, grads.find((g) => g)?.dtype ?? dtype);
        let from = 0;
        sizes.forEach((size, i) => {
          using part = window(dx, a, from, size);
          const g = grads[i];
          if (g) copyInto(g, part);
          else fillInto(part, 0);
          from += size;
        });
        return [dx];
      }),
      parts,
    );
  }
  return parts;
}

/** Joins tensors along an axis (a copy). */
export function concat(parts: readonly Tensor[], axis = -1): Tensor {
  const first = parts[0];
  check(first, 'concat', 'needs at least one tensor');
  const a = axisOf(axis, first.rank, 'concat');
  for (const p of parts)
    check(
      p.dtype === first.dtype && p.rank === first.rank && p.shape.every((d, i) => i === a || d === first.shape[i]),
      'concat',
      'shapes or dtypes differ',
      () => parts.map(describe).join(', '),
    );
  if (parts.length === 1) return contiguous(first);
  const sizes = parts.map((p) => p.shape[a]!);
  const y = first.device.empty(
    first.shape.map((d, i) => (i === a ? sizes.reduce((p, q) => p + q, 0) : d)),
    first.dtype,
  );
  let at = 0;
  parts.forEach((p, i) => {
    using part = window(y, a, at, sizes[i]!);
    copyInto(p, part);
    at += sizes[i]!;
  });
  if (gradEnabled() && parts.some(tracked))
    connect(new Node('concat', parts, [y], [], ([g]) => (g ? split(g, sizes, a) : parts.map(() => undefined))), [y]);
  return y;
}

export function expand(x: Tensor, shape: readonly number[]): Tensor {
  const lead = shape.length - x.rank;
  check(lead >= 0, 'expand', 'cannot drop axes', () => `${describe(x)} to [${shape}]`);
  const strides = shape.map((d, i) => {
    const from = i - lead;
    if (from < 0) return 0;
    const own = x.shape[from]!;
    check(own === d || own === 1, 'expand', 'only axes of length 1 grow', () => `${describe(x)} to [${shape}]`);
    return own === d ? x.strides[from]! : 0;
  });
  if (sameShape(shape, x.shape)) return view('expand', x, x.shape, x.strides, x.byteOffset, (g) => g);
  return view('expand', x, shape, strides, x.byteOffset, (g) => unbroadcast(g, x.shape));
}

/** Sums a gradient over the axes that broadcasting added or grew. */
export function unbroadcast(g: Tensor, shape: readonly number[]): Tensor {
  if (sameShape(g.shape, shape)) return g;
  const lead = g.rank - shape.length;
  const axes = g.shape.map((_, i) => i).filter((i) => i < lead || (shape[i - lead] === 1 && g.shape[i] !== 1));
  const y = primitive('reduce', 'none', { x: g }, { op: 'sum', axes }).y;
  return reshape(y, shape);
}
