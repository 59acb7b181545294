import {
  type Attention,
  type AttentionBackward,
  type FusedKernel,
  type Refusal,
  sizeOf,
  type TensorSpec,
  type View,
} from '@lowrank/kernels';
import type { CommandList, Range, TensorMap } from '../runtime/commands.ts';
import type { CudaDevice } from '../runtime/device.ts';
import { codeOf, rangeOf } from '../runtime/views.ts';

/** Widths that the tensor-core kernels are built for. */
const tensorWidths = [64, 128];
/** Widest head of the plain kernels. */
const plainWidth = 256;

function accepts(operands: Readonly<Record<string, TensorSpec>>): true | Refusal {
  const width = operands.q!.shape[3]!;
  if (width > plainWidth) return { refused: `heads are ${width} wide, at most ${plainWidth} are taken` };
  for (const [name, spec] of Object.entries(operands))
    if (width > 1 && spec.strides[3] !== 1) return { refused: `the last axis of ${name} is not contiguous` };
  return true;
}

/** Rows of every head can be fetched 16 bytes at a time. */
function onTensorCores(...views: readonly View[]): boolean {
  const [first] = views;
  return (
    first!.dtype !== 'f32' &&
    tensorWidths.includes(first!.shape[3]!) &&
    views.every(
      (v) => v.byteOffset % 16 === 0 && v.strides.slice(0, 3).every((s, i) => s % 8 === 0 || v.shape[i] === 1),
    )
  );
}

interface Operands {
  readonly q: View;
  readonly k: View;
  readonly starts?: View;
  readonly ends?: View;
}

const cudaMapType = { f16: 6, f32: 7, bf16: 9 } as const;

/** Boxes of 64 columns by `rows` rows of one head, as the copy engine fetches them. */
function tiles(view: View, rows = 128): TensorMap {
  const [B, T, H, D] = view.shape as [number, number, number, number];
  const bytes = (axis: number) => Math.max(view.strides[axis]! * 2, 16);
  return {
    range: rangeOf(view),
    dataType: cudaMapType[view.dtype as 'bf16'],
    dims: [D, H, T, B],
    strides: [bytes(2), bytes(1), bytes(0)],
    box: [64, 1, rows, 1],
    swizzle: 3,
  };
}

/** Operands of the heads that are walked together should stay in this part of the cache. */
const cachePart = 0.55;

/**
 * How many heads the kernels for sm_90a walk together (`placeOf` of attention-hopper.cuh): as many as the cache holds what their blocks
 * read again (`bytes` a head), but so many that the long blocks among them start before the short ones of the same section fill the GPU.
 */
function together(device: CudaDevice, tiles: number, bytes: number, heads: number): number {
  const fit = Math.floor((device.info.l2Bytes * cachePart) / bytes);
  return Math.max(1, Math.min(heads, Math.max(fit, Math.ceil((4 * device.info.multiprocessors) / tiles))));
}

/** `struct AttentionShape` */
function shape(
  list: CommandList,
  { q, k, starts, ends }: Operands,
  { scale, causal }: { scale: number; causal: boolean },
): CommandList {
  const [B, Tq, Hq, D] = q.shape as [number, number, number, number];
  list.align(8);
  list
    .i32(B)
    .i32(Tq)
    .i32(k.shape[1]!)
    .i32(Hq)
    .i32(k.shape[2]!)
    .i32(D)
    .f32(scale)
    .i32(causal ? 1 : 0);
  list.optionalPointer(starts && rangeOf(starts)).optionalPointer(ends && rangeOf(ends));
  return list
    .i64(starts?.strides[0] ?? 0)
    .i64(starts?.strides[1] ?? 0)
    .i64(ends?.strides[0] ?? 0)
    .i64(ends?.strides[1] ?? 0);
}

/** `struct Heads` of each view. */
function heads(list: CommandList, ...views: readonly View[]): CommandList {
  for (const v of views) list.i64(v.strides[0]!).i64(v.strides[1]!).i64(v.strides[2]!);
  return list;
}

export const attention = (device: CudaDevice): FusedKernel<Attention> => ({
  accepts: ({ inputs: { q, k, v }, outputs: { y } }) => accepts({ q, k, v, y }),
  run: ({ inputs, outputs: { y, lse }, attrs }) => {
    const { q, k, v } = inputs;
    const [B, Tq, Hq, D] = q.shape as [number, number, number, number];
    if (B * Tq * Hq === 0) return;
    // With no keys every query sees nothing; the operands have no memory then.
    if (k.shape[1] === 0 || D === 0) return emptyKeys(device, y, lse);
    if (onTensorCores(q, k, v, y)) {
      if (device.hopper && attrs.scale > 0 && Tq >= 64 && device.has(`attention_hopper_${q.dtype}_${D}`))
        return forwardOnHopper(device, inputs, y, lse, attrs);
      const bytes = (128 + 4 * 64) * D * 2;
      const list = device.launch(`attention_${q.dtype}_${D}`, [Math.ceil(Tq / 128), Hq, B], 256, bytes);
      for (const x of [q, k, v, y, lse]) list.pointer(rangeOf(x));
      return device.done(heads(shape(list, inputs, attrs), q, k, v, y));
    }
    const list = device.launch('attention_plain', [Math.ceil(Tq / 8), Hq, B], 256);
    for (const x of [q, k, v, y, lse]) list.pointer(rangeOf(x));
    device.done(heads(shape(list, inputs, attrs), q, k, v, y).i32(codeOf[q.dtype]));
  },
});

/** One block a multiprocessor: attention-hopper.cu. */
function forwardOnHopper(
  device: CudaDevice,
  inputs: Operands & { readonly v: View },
  y: View,
  lse: View,
  attrs: Attention['attrs'],
): void {
  const { q, k, v } = inputs;
  const [B, Tq, Hq, D] = q.shape as [number, number, number, number];
  const [, Tk, Hkv] = k.shape as [number, number, number];
  const tilesQ = Math.ceil(Tq / 128);
  const width = together(device, tilesQ, (Tk * D * 4 * Hkv) / Hq, B * Hq);
  const blocks = Math.min(tilesQ * B * Hq, device.info.multiprocessors);
  const list = device.launch(`attention_hopper_${q.dtype}_${D}`, [blocks], 384, (2 * 128 + 4 * 128) * D * 2);
  for (const x of [q, k, v]) list.tensorMap(tiles(x));
  list.tensorMap(tiles(y, 64)).pointer(rangeOf(lse));
  shape(list, inputs, attrs);
  device.done(list.i32(width));
}

function emptyKeys(device: CudaDevice, y: View, lse: View): void {
  if (sizeOf(y.shape) > 0) device.fill(y, 0);
  device.fill(lse, -Infinity);
}

export const attentionBackward = (device: CudaDevice): FusedKernel<AttentionBackward> => ({
  accepts: ({ inputs: { q, k, v, dy, y }, outputs: { dq, dk, dv } }) => accepts({ q, k, v, dy, y, dq, dk, dv }),
  workspace: ({ inputs: { q } }) => q.shape[0]! * q.shape[1]! * q.shape[2]! * 4,
  run: ({ inputs, outputs: { dq, dk, dv }, attrs, workspace }) => {
    const { dy, q, k, v, y, lse } = inputs;
    const [B, Tq, Hq, D] = q.shape as [number, number, number, number];
    const [, Tk, Hkv] = k.shape as [number, number, number];
    if (B * Tq * Hq * D === 0 || Tk === 0 || !workspace) {
      for (const x of [dq, dk, dv]) if (sizeOf(x.shape) > 0) device.fill(x, 0);
      return;
    }
    const delta = { ...rangeOf(workspace), bytes: B * Tq * Hq * 4 };
    const tensor = onTensorCores(q, k, v, dy, dq, dk, dv);
    const rows = tensor && onTensorCores(dy, y);
    const first = rows
      ? device.launch('attention_delta_half', [Math.ceil((Tq * Hq * D) / 2048), B], 256)
      : device.launch('attention_delta', [device.blocks(B * Tq * Hq * 32)], 256);
    first.pointer(rangeOf(dy)).pointer(rangeOf(y)).pointer(delta);
    if (!rows) first.i32(B);
    device.done(heads(first.i32(Tq).i32(Hq).i32(D), dy, y).i32(codeOf[q.dtype]));
    if (tensor && device.hopper && Tq >= 64 && device.has(`attention_dq_hopper_${q.dtype}_${D}`))
      return backwardOnHopper(device, inputs, { dq, dk, dv }, attrs, delta);
    const operands = (list: CommandList) => {
      for (const x of [dy, q, k, v, lse]) list.pointer(rangeOf(x));
      return list.pointer(delta);
    };
    const suffix = tensor ? `${q.dtype}_${D}` : 'plain';
    const tile = tensor ? 128 : 8;
    const queries = operands(
      device.launch(
        `attention_dq_${suffix}`,
        [Math.ceil(Tq / tile), Hq, B],
        256,
        tensor ? (2 * 128 + 4 * 64) * D * 2 : 0,
      ),
    ).pointer(rangeOf(dq));
    heads(shape(queries, inputs, attrs), dy, q, k, v, dq);
    device.done(tensor ? queries : queries.i32(codeOf[q.dtype]));
    const keys = operands(
      device.launch(
        `attention_dkdv_${suffix}`,
        [Math.ceil(Tk / tile), Hkv, B],
        256,
        tensor ? (2 * 128 + 2 * 64) * D * 2 : 0,
      ),
    )
      .pointer(rangeOf(dk))
      .pointer(rangeOf(dv));
    heads(shape(keys, inputs, attrs), dy, q, k, v, dk, dv);
    device.done(tensor ? keys : keys.i32(codeOf[q.dtype]));
  },
});

/** The passes of attention-backward-hopper.cu. `delta`: Σ dy·y, [B, Hq, Tq]. */
function backwardOnHopper(
  device: CudaDevice,
  inputs: Operands & Readonly<Record<'dy' | 'v' | 'lse', View>>,
  { dq, dk, dv }: Record<'dq' | 'dk' | 'dv', View>,
  attrs: AttentionBackward['attrs'],
  delta: Range,
): void {
  const { dy, q, k, v, lse } = inputs;
  const [B, Tq, Hq, D] = q.shape as [number, number, number, number];
  const [, Tk, Hkv] = k.shape as [number, number, number];
  const suffix = `${q.dtype}_${D}`;
  const launch = (name: string, blocks: number, bytes: number, rows: number, out: readonly View[]) => {
    const list = device.launch(`attention_${name}_hopper_${suffix}`, [blocks], 384, bytes);
    list.tensorMap(tiles(dy, rows)).tensorMap(tiles(q, rows)).tensorMap(tiles(k)).tensorMap(tiles(v));
    list.pointer(rangeOf(lse)).pointer(delta);
    for (const x of out) list.pointer(rangeOf(x));
    return heads(shape(list, inputs, attrs), ...out);
  };
  const [tilesQ, tilesK] = [Math.ceil(Tq / 128), Math.ceil(Tk / 128)];
  const queries = launch('dq', tilesQ * B * Hq, (2 * 128 + 4 * 128) * D * 2, 128, [dq]);
  device.done(queries.i32(together(device, tilesQ, (Tk * D * 4 * Hkv) / Hq, B * Hq)));
  const keys = launch('dkdv', tilesK * B * Hkv, (2 * 128 + 8 * 64) * D * 2, 64, [dk, dv]);
  device.done(keys.i32(together(device, tilesK, (Tq * D * 4 * Hq) / Hkv, B * Hkv)));
}
