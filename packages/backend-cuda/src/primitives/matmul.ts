import { type Call, type Matmul, sizeOf, type View } from '@lowrank/kernels';
import type { CudaDevice } from '../runtime/device.ts';
import { type GemmPlans, matrixOf } from '../runtime/gemm.ts';
import { codeOf, join, rangeOf, reshaped } from '../runtime/views.ts';
import { copyView } from './elementwise.ts';

/** Batches that do not merge into one stride are run one by one up to this many. */
const separateBatches = 16;

const sameView = (p: View, q: View) =>
  p.buffer === q.buffer &&
  p.byteOffset === q.byteOffset &&
  p.dtype === q.dtype &&
  p.strides.every((s, i) => s === q.strides[i] || p.shape[i] === 1);

/** y = alpha · a·b + beta · c: by cuBLASLt where it takes the strides and dtypes, else by the kernel for any strides. */
export function matmul(device: CudaDevice, plans: GemmPlans, call: Call<Matmul>): void {
  const {
    inputs: { a, c },
    outputs: { y },
  } = call;
  if (sizeOf(y.shape) === 0) return;
  const inner = a.shape[a.shape.length - 1]!;
  if (inner > 0 && (!c || c.dtype === y.dtype) && byBlas(device, plans, call)) return;
  byTiles(device, call);
}

function byBlas(
  device: CudaDevice,
  plans: GemmPlans,
  { inputs: { a, b, c }, outputs: { y }, attrs: { alpha = 1, beta = 1 } }: Call<Matmul>,
): boolean {
  const lead = y.shape.slice(0, -2);
  const joined = join(
    lead,
    [a, b, y].map((v) => v.strides.slice(0, -2)),
  );
  const rank = joined.shape.length;
  const outer = sizeOf(joined.shape.slice(0, -1));
  if (outer > separateBatches) return false;
  const tail = (v: View, offset: number) => reshaped(v, v.shape.slice(-2), v.strides.slice(-2), offset);
  const batch = joined.shape[rank - 1]!;
  const [sa, sb, sy] = joined.strides as [number[], number[], number[]];
  const at = (o: number): [number, number, number] => {
    let rest = o;
    const offsets: [number, number, number] = [0, 0, 0];
    for (let axis = rank - 2; axis >= 0; axis--) {
      const index = rest % joined.shape[axis]!;
      rest = Math.floor(rest / joined.shape[axis]!);
      for (const [i, s] of [sa, sb, sy].entries()) offsets[i]! += index * s[axis]!;
    }
    return offsets;
  };
  const products = Array.from({ length: outer }, (_, o) => {
    const [oa, ob, oy] = at(o);
    const stride = (s: number[]) => (batch > 1 ? s[rank - 1]! : 0);
    const [ma, mb, md] = [
      matrixOf(tail(a, oa), stride(sa)),
      matrixOf(tail(b, ob), stride(sb)),
      matrixOf(tail(y, oy), stride(sy)),
    ];
    // A batch over one shared right operand is one product with more rows.
    if (
      ma &&
      mb &&
      md &&
      batch > 1 &&
      mb.stride === 0 &&
      !ma.transposed &&
      !md.transposed &&
      ma.stride === ma.rows * ma.ld &&
      md.stride === md.rows * md.ld
    ) {
      const rows = ma.rows * batch;
      return { a: { ...ma, rows, stride: 0 }, b: mb, d: { ...md, rows, stride: 0 }, batch: 1 };
    }
    return { a: ma, b: mb, d: md, batch };
  });
  if (products.some((p) => !p.a || !p.b || !p.d)) return false;
  const adds = c !== undefined && beta !== 0;
  let copied = false;
  for (const { a: ma, b: mb, d: md, batch: count } of products) {
    if (adds && !copied && !sameView(c, y)) copyView(device, c, y);
    copied = true;
    if (!plans.run({ a: ma!, b: mb!, d: md!, batch: count, alpha, beta: adds ? beta : 0 })) return false;
  }
  return true;
}

function byTiles(
  device: CudaDevice,
  { inputs: { a, b, c }, outputs: { y }, attrs: { alpha = 1, beta = 1 } }: Call<Matmul>,
): void {
  const lead = y.shape.slice(0, -2);
  const cLead = c ? c.strides.slice(0, -2) : lead.map(() => 0);
  const batch = join(lead, [a.strides.slice(0, -2), b.strides.slice(0, -2), cLead, y.strides.slice(0, -2)]);
  const [m, n] = y.shape.slice(-2) as [number, number];
  const k = a.shape[a.shape.length - 1]!;
  const list = device.launch(
    'matmul_tile',
    [Math.ceil(n / 64), Math.min(Math.ceil(m / 64), 65535), Math.min(sizeOf(batch.shape), 65535)],
    256,
  );
  list
    .pointer(rangeOf(a))
    .pointer(rangeOf(b))
    .optionalPointer(c && beta !== 0 ? rangeOf(c) : undefined)
    .pointer(rangeOf(y))
    .shape(batch.shape);
  for (const s of batch.strides) list.strides(s);
  list.i32(m).i32(n).i32(k);
  for (const v of [a, b, c, y])
    list.i64(v ? v.strides[v.shape.length - 2]! : 0).i64(v ? v.strides[v.shape.length - 1]! : 0);
  list.f32(alpha).f32(beta);
  device.done(
    list
      .i32(codeOf[a.dtype])
      .i32(codeOf[b.dtype])
      .i32(codeOf[(c ?? y).dtype])
      .i32(codeOf[y.dtype]),
  );
}
