import {
  type CrossEntropy,
  type FusedKernel,
  isContiguous,
  type OpTypes,
  type Refusal,
  type RmsNorm,
  type RmsNormBackward,
  type Rope,
  type Softmax,
  type SoftmaxBackward,
  type Swiglu,
  type SwigluBackward,
  sizeOf,
  type TensorSpec,
  type View,
} from '@lowrank/kernels';
import type { CudaDevice } from '../runtime/device.ts';
import { codeOf, type Rows, rangeOf, rowsOf, wide } from '../runtime/views.ts';

const refuse = (refused: string): Refusal => ({ refused });

/** Refuses operands whose rows are not contiguous at one pitch. */
function needRows(operands: Readonly<Record<string, TensorSpec | undefined>>): true | Refusal {
  for (const [name, spec] of Object.entries(operands))
    if (spec && !rowsOf(spec)) return refuse(`${name} has no contiguous rows at one pitch`);
  return true;
}

/** The same for vectors. */
function needContiguous(operands: Readonly<Record<string, TensorSpec | undefined>>): true | Refusal {
  for (const [name, spec] of Object.entries(operands))
    if (spec && !isContiguous(spec)) return refuse(`${name} is not contiguous`);
  return true;
}

const both = (first: true | Refusal, second: () => true | Refusal) => (first === true ? second() : first);

/** The kernel for aligned 16-bit rows, where all operands are of one such dtype; undefined elsewhere. */
function half(dtypes: readonly View['dtype'][], isWide: boolean): 'bf16' | 'f16' | undefined {
  const [first] = dtypes;
  return isWide && (first === 'bf16' || first === 'f16') && dtypes.every((d) => d === first) ? first : undefined;
}

/** Widest row whose chunks of eight, four a thread, fit a block of 512. */
const registerWidth = 512 * 4 * 8;
/** Chunks a thread, and threads, for a row kept in registers. */
function registerShape(width: number): { chunks: 1 | 4; threads: number } {
  const chunks = width <= 1024 ? 1 : 4;
  return { chunks, threads: Math.max(32, Math.ceil(width / 8 / chunks / 32) * 32) };
}

/** A block's threads for a row of `width` elements, eight a thread. */
function threadsFor(width: number): number {
  return Math.min(1024, Math.max(32, Math.ceil(width / 8 / 32) * 32));
}

const blocksFor = (rows: number) => Math.min(rows, 65535 * 32);

interface RowOperand extends Rows {
  readonly view: View;
}
function operand(view: View): RowOperand {
  return { view, ...rowsOf(view)! };
}

type Make<O extends OpTypes> = (device: CudaDevice) => FusedKernel<O>;

export const softmax: Make<Softmax> = (device) => ({
  accepts: ({ inputs: { x }, outputs: { y } }) => needRows({ x, y }),
  run: ({ inputs, outputs }) => {
    const [x, y] = [operand(inputs.x), operand(outputs.y)];
    if (x.rows * x.width === 0) return;
    const list = device
      .launch('softmax_rows', [blocksFor(x.rows)], threadsFor(x.width))
      .pointer(rangeOf(x.view))
      .pointer(rangeOf(y.view));
    device.done(
      list
        .i64(x.rows)
        .i64(x.width)
        .i64(x.pitch)
        .i64(y.pitch)
        .i32(codeOf[x.view.dtype])
        .i32(+wide(x.width, x, y)),
    );
  },
});

export const softmaxBackward: Make<SoftmaxBackward> = (device) => ({
  accepts: ({ inputs: { dy, y }, outputs: { dx } }) => needRows({ dy, y, dx }),
  run: ({ inputs, outputs }) => {
    const [dy, y, dx] = [operand(inputs.dy), operand(inputs.y), operand(outputs.dx)];
    if (y.rows * y.width === 0) return;
    const list = device
      .launch('softmax_backward_rows', [blocksFor(y.rows)], threadsFor(y.width))
      .pointer(rangeOf(dy.view))
      .pointer(rangeOf(y.view))
      .pointer(rangeOf(dx.view));
    device.done(
      list
        .i64(y.rows)
        .i64(y.width)
        .i64(dy.pitch)
        .i64(y.pitch)
        .i64(dx.pitch)
        .i32(codeOf[dy.view.dtype])
        .i32(codeOf[y.view.dtype])
        .i32(+wide(y.width, dy, y, dx)),
    );
  },
});

export const rmsNorm: Make<RmsNorm> = (device) => ({
  accepts: ({ inputs: { x, weight }, outputs: { y, rstd } }) =>
    both(needRows({ x, y }), () => needContiguous({ weight, rstd })),
  run: ({ inputs, outputs, attrs: { eps } }) => {
    const [x, y] = [operand(inputs.x), operand(outputs.y)];
    if (x.rows * x.width === 0) return;
    const w = { view: inputs.weight, pitch: 8 };
    const fast = x.width <= registerWidth && half([x.view.dtype, w.view.dtype, y.view.dtype], wide(x.width, x, y, w));
    if (fast) {
      const { chunks, threads } = registerShape(x.width);
      const list = device
        .launch(`rms_norm_${fast}_${chunks}`, [blocksFor(x.rows)], threads)
        .pointer(rangeOf(x.view))
        .pointer(rangeOf(w.view))
        .pointer(rangeOf(y.view))
        .pointer(rangeOf(outputs.rstd));
      return device.done(list.i64(x.rows).i64(x.width).i64(x.pitch).i64(y.pitch).f32(eps));
    }
    const list = device
      .launch('rms_norm_rows', [blocksFor(x.rows)], threadsFor(Math.ceil(x.width / 2)))
      .pointer(rangeOf(x.view))
      .pointer(rangeOf(w.view))
      .pointer(rangeOf(y.view))
      .pointer(rangeOf(outputs.rstd));
    device.done(
      list
        .i64(x.rows)
        .i64(x.width)
        .i64(x.pitch)
        .i64(y.pitch)
        .f32(eps)
        .i32(codeOf[x.view.dtype])
        .i32(codeOf[w.view.dtype])
        .i32(+wide(x.width, x, y, w)),
    );
  },
});

/** Strips that the weight's gradient is summed in. */
const strips = (rows: number) => Math.min(128, Math.max(1, Math.ceil(rows / 16)));

export const rmsNormBackward: Make<RmsNormBackward> = (device) => ({
  accepts: ({ inputs: { dy, x, weight, rstd }, outputs: { dx, dweight } }) =>
    both(needRows({ dy, x, dx }), () => needContiguous({ weight, rstd, dweight })),
  workspace: ({ inputs: { x }, attrs: { needWeight } }) =>
    needWeight ? strips(rowsOf(x)!.rows) * rowsOf(x)!.width * 4 : 0,
  run: ({ inputs, outputs, workspace }) => {
    const [dy, x, dx] = [operand(inputs.dy), operand(inputs.x), operand(outputs.dx)];
    const w = { view: inputs.weight, pitch: 8 };
    const { dweight } = outputs;
    if (x.width === 0) return;
    if (dweight && x.rows === 0) {
      device.commands.fill(rangeOf(dweight), 0, 4);
      return device.enqueued();
    }
    if (x.rows === 0) return;
    const rstd = rangeOf(inputs.rstd);
    const types = [codeOf[dy.view.dtype], codeOf[x.view.dtype]] as const;
    if (dweight && workspace) {
      const count = strips(x.rows);
      const partial = { ...rangeOf(workspace), bytes: count * x.width * 4 };
      const sums = device
        .launch('rms_norm_weight_strips', [count, Math.ceil(x.width / 2048)], 256)
        .pointer(rangeOf(dy.view))
        .pointer(rangeOf(x.view))
        .pointer(rstd)
        .pointer(partial);
      device.done(
        sums
          .i64(x.rows)
          .i64(x.width)
          .i64(dy.pitch)
          .i64(x.pitch)
          .i32(types[0])
          .i32(types[1])
          .i32(+wide(x.width, dy, x)),
      );
      device.done(
        device
          .launch('rms_norm_weight_sum', [device.blocks(x.width)], 256)
          .pointer(partial)
          .pointer(rangeOf(dweight))
          .i64(count)
          .i64(x.width),
      );
    }
    const fast =
      x.width <= registerWidth &&
      half([dy.view.dtype, x.view.dtype, w.view.dtype, dx.view.dtype], wide(x.width, dy, x, dx, w));
    if (fast) {
      const { chunks, threads } = registerShape(x.width);
      const list = device
        .launch(`rms_norm_backward_${fast}_${chunks}`, [blocksFor(x.rows)], threads)
        .pointer(rangeOf(dy.view))
        .pointer(rangeOf(x.view))
        .pointer(rangeOf(w.view))
        .pointer(rstd)
        .pointer(rangeOf(dx.view));
      return device.done(list.i64(x.rows).i64(x.width).i64(dy.pitch).i64(x.pitch).i64(dx.pitch));
    }
    const list = device
      .launch('rms_norm_backward_rows', [blocksFor(x.rows)], threadsFor(x.width))
      .pointer(rangeOf(dy.view))
      .pointer(rangeOf(x.view))
      .pointer(rangeOf(w.view))
      .pointer(rstd)
      .pointer(rangeOf(dx.view));
    list
      .i64(x.rows)
      .i64(x.width)
      .i64(dy.pitch)
      .i64(x.pitch)
      .i64(dx.pitch)
      .i32(types[0])
      .i32(types[1])
      .i32(codeOf[w.view.dtype]);
    device.done(list.i32(+wide(x.width, dy, x, dx, w)));
  },
});

export const rope: Make<Rope> = (device) => ({
  accepts: ({ inputs: { x, cos, sin }, outputs: { y } }) => {
    for (const [name, spec] of Object.entries({ x, cos, sin, y }))
      if (spec.shape[spec.shape.length - 1]! > 1 && spec.strides[spec.shape.length - 1] !== 1)
        return refuse(`the last axis of ${name} is not contiguous`);
    return true;
  },
  run: ({ inputs: { x, cos, sin, positions }, outputs: { y }, attrs: { inverse, heads } }) => {
    const [B, T, all, D] = x.shape as [number, number, number, number];
    const half = cos.shape[1]!;
    if (sizeOf(x.shape) === 0) return;
    const inPlace = x.buffer === y.buffer && x.byteOffset === y.byteOffset;
    const turned = heads ?? all;
    // in place, heads that do not turn are where they belong
    const H = inPlace ? turned : all;
    const strides = (v: View) => v.strides.slice(0, 3) as [number, number, number];
    const eights =
      half % 8 === 0 &&
      [x, y].every((v) => v.byteOffset % 16 === 0 && strides(v).every((s, i) => s % 8 === 0 || v.shape[i] === 1));
    const rest = inPlace ? 0 : D - 2 * half;
    const items = half / (eights ? 8 : 1) + rest;
    if (items === 0 || H === 0) return;
    const empty = cos.shape[0] === 0 || half === 0;
    const list = device
      .launch('rope_heads', [device.blocks(B * T * H * items)], 256)
      .pointer(rangeOf(x))
      .optionalPointer(empty ? undefined : rangeOf(cos))
      .optionalPointer(empty ? undefined : rangeOf(sin))
      .pointer(rangeOf(positions))
      .pointer(rangeOf(y));
    list
      .i32(T)
      .i32(H)
      .i32(D)
      .i32(half)
      .i64(B * T * H);
    for (const s of [
      ...strides(x),
      ...strides(y),
      positions.strides[0]!,
      positions.strides[1]!,
      cos.strides[0]!,
      sin.strides[0]!,
    ])
      list.i64(s);
    device.done(
      list
        .i32(codeOf[x.dtype])
        .f32(inverse ? -1 : 1)
        .i32(+eights)
        .i32(+!inPlace)
        .i32(turned),
    );
  },
});

export const swiglu: Make<Swiglu> = (device) => ({
  accepts: ({ inputs: { x }, outputs: { y } }) => needRows({ x, y }),
  run: ({ inputs, outputs }) => {
    const [x, y] = [operand(inputs.x), operand(outputs.y)];
    const n = y.width;
    if (y.rows * n === 0) return;
    const fast = half([x.view.dtype, y.view.dtype], wide(n, x, y));
    if (fast) {
      const list = device
        .launch(`swiglu_${fast}`, [Math.ceil(n / 4096), Math.min(y.rows, 65535)], 256)
        .pointer(rangeOf(x.view))
        .pointer(rangeOf(y.view));
      return device.done(list.i64(y.rows).i64(n).i64(x.pitch).i64(y.pitch));
    }
    const list = device
      .launch('swiglu_rows', [device.blocks((y.rows * n) / 8)], 256)
      .pointer(rangeOf(x.view))
      .pointer(rangeOf(y.view));
    device.done(
      list
        .i64(y.rows)
        .i64(n)
        .i64(x.pitch)
        .i64(y.pitch)
        .i32(codeOf[x.view.dtype])
        .i32(+wide(n, x, y)),
    );
  },
});

export const swigluBackward: Make<SwigluBackward> = (device) => ({
  accepts: ({ inputs: { dy, x }, outputs: { dx } }) =>
    x.dtype !== dy.dtype && x.dtype !== dx.dtype ? refuse('dx is not of the dtype of dy') : needRows({ dy, x, dx }),
  run: ({ inputs, outputs }) => {
    const [dy, x, dx] = [operand(inputs.dy), operand(inputs.x), operand(outputs.dx)];
    const n = dy.width;
    if (dy.rows * n === 0) return;
    const fast = half([dy.view.dtype, x.view.dtype, dx.view.dtype], wide(n, dy, x, dx));
    if (fast) {
      const list = device
        .launch(`swiglu_backward_${fast}`, [Math.ceil(n / 2048), Math.min(dy.rows, 65535)], 256)
        .pointer(rangeOf(dy.view))
        .pointer(rangeOf(x.view))
        .pointer(rangeOf(dx.view));
      return device.done(list.i64(dy.rows).i64(n).i64(dy.pitch).i64(x.pitch).i64(dx.pitch));
    }
    const list = device
      .launch('swiglu_backward_rows', [device.blocks((dy.rows * n) / 8)], 256)
      .pointer(rangeOf(dy.view))
      .pointer(rangeOf(x.view))
      .pointer(rangeOf(dx.view));
    list
      .i64(dy.rows)
      .i64(n)
      .i64(dy.pitch)
      .i64(x.pitch)
      .i64(dx.pitch)
      .i32(codeOf[dy.view.dtype])
      .i32(codeOf[x.view.dtype]);
    device.done(list.i32(+wide(n, dy, x, dx)));
  },
});

export const crossEntropy: Make<CrossEntropy> = (device) => ({
  accepts: ({ inputs: { logits }, outputs: { loss, dlogits } }) =>
    both(needRows({ logits, dlogits }), () => needContiguous({ loss })),
  run: ({ inputs: { logits, labels, scale }, outputs: { loss, dlogits } }) => {
    const x = operand(logits);
    if (x.rows === 0) return;
    const d = dlogits ? operand(dlogits) : x;
    const fast = dlogits && half([logits.dtype, dlogits.dtype], wide(x.width, x, d) && x.width < 2 ** 28);
    if (fast) {
      const threads = Math.min(1024, Math.max(32, Math.ceil(x.width / 8 / 4 / 32) * 32));
      // As much of a row as one block may keep; the rest is read again, from the cache.
      const keep = Math.min(x.width / 8, Math.floor((device.info.sharedBytes - 2048) / 16));
      const list = device
        .launch(`cross_entropy_${fast}`, [blocksFor(x.rows)], threads, keep * 16)
        .pointer(rangeOf(logits))
        .pointer(rangeOf(labels))
        .optionalPointer(scale && rangeOf(scale))
        .pointer(rangeOf(loss))
        .pointer(rangeOf(dlogits));
      return device.done(list.i64(x.rows).i64(x.width).i64(x.pitch).i64(d.pitch).i64(labels.strides[0]!).i32(keep));
    }
    const list = device
      .launch('cross_entropy_rows', [blocksFor(x.rows)], threadsFor(x.width))
      .pointer(rangeOf(logits))
      .pointer(rangeOf(labels))
      .optionalPointer(scale && rangeOf(scale))
      .pointer(rangeOf(loss))
      .optionalPointer(dlogits && rangeOf(dlogits));
    list.i64(x.rows).i64(x.width).i64(x.pitch).i64(d.pitch).i64(labels.strides[0]!).i32(codeOf[logits.dtype]);
    device.done(list.i32(+wide(x.width, x, d)).i32(dlogits ? 1 : 0));
  },
});
