import { type Device, keep, scope, type Tensor } from '@lowrank/tensor';
import type { Batch } from '../data/batch.ts';
import { ignored } from '../data/dataset.ts';

/**
 * Which rows of hidden states the head sees: only those whose labels count, rounded up to a quarter of all, so that few shapes come.
 * Undefined where that would be all of them.
 */
export function headRows({
  shape: [b, t],
  labels,
  tokens,
}: Pick<Batch, 'shape' | 'labels' | 'tokens'>): Int32Array | undefined {
  const all = b * t;
  const quarter = Math.ceil(all / 4);
  const count = Math.ceil(Math.max(tokens, 1) / quarter) * quarter;
  if (count >= all) return undefined;
  // −1 is no row: it gives zeros, and takes no gradient
  const rows = new Int32Array(count).fill(-1);
  let n = 0;
  for (let i = 0; i < all; i++) if (labels[i] !== ignored) rows[n++] = i;
  return rows;
}

/** The device buffers that batches of one shape are written to. */
export class BatchInputs implements Disposable {
  readonly ids: Tensor;
  /** [N], or [R] of the rows that the head sees. */
  readonly labels: Tensor;
  readonly positions: Tensor;
  readonly starts: Tensor | undefined;
  readonly rows: Tensor | undefined;

  constructor(device: Device, batch: Batch, rows: Int32Array | undefined) {
    const shape = [...batch.shape];
    const empty = (of: readonly number[]) => keep(device.empty(of, 'i32', 'data'));
    this.ids = empty(shape);
    this.positions = empty(shape);
    this.starts = batch.starts && empty(shape);
    this.rows = rows && empty([rows.length]);
    this.labels = empty([rows?.length ?? batch.labels.length]);
  }

  /** What batches must have in common to share buffers and a recording. */
  static key(batch: Batch, rows: Int32Array | undefined): string {
    return `${batch.shape.join('×')}${rows ? `, head ${rows.length}` : ''}${batch.starts ? ', packed' : ''}`;
  }

  write(batch: Batch, rows: Int32Array | undefined): void {
    const { device } = this.ids;
    device.write(this.ids, batch.ids);
    device.write(this.positions, batch.positions);
    if (this.starts && batch.starts) device.write(this.starts, batch.starts);
    if (this.rows && rows) device.write(this.rows, rows);
    device.write(this.labels, rows ? rows.map((i) => (i < 0 ? ignored : batch.labels[i]!)) : batch.labels);
  }

  [Symbol.dispose](): void {
    for (const t of [this.ids, this.labels, this.positions, this.starts, this.rows]) t?.dispose();
  }
}

/** Runs `fn` with fresh buffers of a batch, for a single use. */
export function withInputs<T>(device: Device, batch: Batch, fn: (inputs: BatchInputs) => T): T {
  const rows = headRows(batch);
  return scope(() => {
    using inputs = new BatchInputs(device, batch, rows);
    inputs.write(batch, rows);
    return fn(inputs);
  });
}
