import { type Adamw, type Dropout, type FusedKernel, isContiguous, sizeOf } from '@lowrank/kernels';
import { copyView } from '../primitives/elementwise.ts';
import type { CudaDevice } from '../runtime/device.ts';
import { aligned, codeOf, join, rangeOf } from '../runtime/views.ts';

export const adamw = (device: CudaDevice): FusedKernel<Adamw> => ({
  accepts: ({ inputs: { p, g, m, v, hyper } }) =>
    [p, g, m, v, hyper].every(isContiguous) ? true : { refused: 'an operand is not contiguous' },
  run: ({ inputs: { g, hyper, gradScale, ...from }, outputs: { p, m, v }, attrs: { beta1, beta2, eps } }) => {
    const n = sizeOf(p.shape);
    if (n === 0) return;
    // The kernel works in place; a caller that wants fresh outputs gets copies first.
    for (const [source, target] of [
      [from.p, p],
      [from.m, m],
      [from.v, v],
    ] as const)
      if (source.buffer !== target.buffer || source.byteOffset !== target.byteOffset) copyView(device, source, target);
    const list = device
      .launch('adamw_dense', [device.blocks(n / 8)], 256)
      .pointer(rangeOf(p))
      .pointer(rangeOf(g))
      .pointer(rangeOf(m))
      .pointer(rangeOf(v))
      .pointer(rangeOf(hyper))
      .optionalPointer(gradScale && rangeOf(gradScale));
    list
      .i64(n)
      .i32(codeOf[p.dtype])
      .i32(codeOf[g.dtype])
      .f32(1 - beta1)
      .f32(beta2)
      .f32(1 - beta2)
      .f32(eps);
    device.done(list.i32(+aligned(p, g, m, v)));
  },
});

export const dropout = (device: CudaDevice): FusedKernel<Dropout> => ({
  accepts: () => true,
  run: ({ inputs: { x, seed }, outputs: { y }, attrs: { p, site } }) => {
    const n = sizeOf(y.shape);
    if (n === 0) return;
    const { shape, strides } = join(y.shape, [x.strides, y.strides]);
    const dense = shape.length === 1 && strides.every((s) => s[0] === 1) && aligned(x, y);
    const list = device
      .launch(dense ? 'dropout_dense' : 'dropout_strided', [device.blocks(n / (dense ? 8 : 4))], 256)
      .pointer(rangeOf(x))
      .pointer(rangeOf(seed))
      .i64(seed.strides[0]!)
      .pointer(rangeOf(y));
    if (dense) list.i64(n);
    else list.shape(shape).strides(strides[0]!).strides(strides[1]!);
    device.done(
      list
        .i32(codeOf[x.dtype])
        .f32(p)
        .f32(1 - p)
        .u32(site >>> 0),
    );
  },
});
