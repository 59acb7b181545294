import { Tensor } from '../tensor.ts';
import { binary, cast, matmul, reduce, unary } from './primitives.ts';
import { contiguous, expand, permute, reshape, slice, split, transpose } from './views.ts';

/** x op y, where y may be a number. */
function arithmetic(op: 'add' | 'sub' | 'mul' | 'div', x: Tensor, y: Tensor | number): Tensor {
  if (typeof y !== 'number') return binary(op, x, y);
  const [p, q] = op === 'add' ? [1, y] : op === 'sub' ? [1, -y] : op === 'mul' ? [y, 0] : [1 / y, 0];
  return unary('affine', x, p, q);
}

function mean(x: Tensor, axes?: number | readonly number[], keepAxes?: boolean): Tensor {
  const sum = reduce('sum', x, axes, keepAxes);
  const y = unary('affine', sum, sum.size / Math.max(x.size, 1), 0);
  sum.dispose();
  return y;
}

const methods = {
  add(this: Tensor, y: Tensor | number) {
    return arithmetic('add', this, y);
  },
  sub(this: Tensor, y: Tensor | number) {
    return arithmetic('sub', this, y);
  },
  mul(this: Tensor, y: Tensor | number) {
    return arithmetic('mul', this, y);
  },
  div(this: Tensor, y: Tensor | number) {
    return arithmetic('div', this, y);
  },
  affine(this: Tensor, p: number, q: number) {
    return unary('affine', this, p, q);
  },
  unary(this: Tensor, ...args: Parameters<Tensor['unary']>) {
    return unary(args[0], this, args[1], args[2]);
  },
  binary(this: Tensor, ...args: Parameters<Tensor['binary']>) {
    return binary(args[0], this, args[1]);
  },
  neg(this: Tensor) {
    return unary('neg', this);
  },
  exp(this: Tensor) {
    return unary('exp', this);
  },
  log(this: Tensor) {
    return unary('log', this);
  },
  square(this: Tensor) {
    return unary('square', this);
  },
  silu(this: Tensor) {
    return unary('silu', this);
  },
  matmul(this: Tensor, b: Tensor) {
    return matmul(this, b);
  },
  reduce(this: Tensor, ...[op, axes, keepAxes]: Parameters<Tensor['reduce']>) {
    return reduce(op, this, axes, keepAxes);
  },
  sum(this: Tensor, ...args: Parameters<Tensor['sum']>) {
    return reduce('sum', this, ...args);
  },
  mean(this: Tensor, ...args: Parameters<Tensor['mean']>) {
    return mean(this, ...args);
  },
  max(this: Tensor, ...args: Parameters<Tensor['max']>) {
    return reduce('max', this, ...args);
  },
  cast(this: Tensor, ...args: Parameters<Tensor['cast']>) {
    return cast(this, ...args);
  },
  reshape(this: Tensor, shape: readonly number[]) {
    return reshape(this, shape);
  },
  transpose(this: Tensor, a?: number, b?: number) {
    return transpose(this, a, b);
  },
  permute(this: Tensor, axes: readonly number[]) {
    return permute(this, axes);
  },
  slice(this: Tensor, ...args: Parameters<Tensor['slice']>) {
    return slice(this, ...args);
  },
  expand(this: Tensor, shape: readonly number[]) {
    return expand(this, shape);
  },
  split(this: Tensor, ...args: Parameters<Tensor['split']>) {
    return split(this, ...args);
  },
  contiguous(this: Tensor) {
    return contiguous(this);
  },
};

Object.assign(Tensor.prototype, methods);
