import { type Dataset, ignored } from './dataset.ts';

/**
 * One call of the model: B rows of T tokens, row-major. A row holds one sample, or several when packing, then padding.
 * `labels` are shifted already: `labels[b·T + t]` is the id that position t must predict (the id at t + 1), −100 where nothing counts: the
 * last position of every sample, prompts, padding.
 */
export interface Batch {
  readonly shape: readonly [rows: number, length: number];
  readonly ids: Int32Array;
  readonly labels: Int32Array;
  /** From 0 in every sample. */
  readonly positions: Int32Array;
  /** When packing: the first index of the row that a position sees, which is the start of its own sample. */
  readonly starts?: Int32Array;
  /** Labels that count. */
  readonly tokens: number;
  /** Tokens that are no padding. */
  readonly inputTokens: number;
  /** Indices of the samples, row by row. */
  readonly samples: readonly (readonly number[])[];
}

/** Lays samples into rows of `length` tokens, filled up with padding; rows beyond those given are padding alone. */
export function collate(
  dataset: Dataset,
  rows: readonly (readonly number[])[],
  length: number,
  options: { readonly packed?: boolean; readonly minRows?: number } = {},
): Batch {
  const count = Math.max(rows.length, options.minRows ?? 0);
  const size = count * length;
  const ids = new Int32Array(size).fill(dataset.padTokenId);
  const labels = new Int32Array(size).fill(ignored);
  const positions = new Int32Array(size);
  const starts = options.packed ? new Int32Array(size) : undefined;
  let tokens = 0;
  let inputTokens = 0;
  for (let r = 0; r < count; r++) {
    const base = r * length;
    let at = 0;
    for (const index of rows[r] ?? []) {
      const sample = dataset.samples[index]!;
      const n = sample.ids.length;
      ids.set(sample.ids, base + at);
      labels.set(sample.labels.subarray(1), base + at);
      for (let t = 0; t < n; t++) positions[base + at + t] = t;
      starts?.fill(at, base + at, base + at + n);
      for (let t = 1; t < n; t++) if (sample.labels[t] !== ignored) tokens++;
      at += n;
      inputTokens += n;
    }
    // padding goes on counting as a sample of its own
    for (let t = at; t < length; t++) positions[base + t] = options.packed ? t - at : t;
    starts?.fill(at, base + at, base + length);
  }
  return {
    shape: [count, length],
    ids,
    labels,
    positions,
    ...(starts ? { starts } : {}),
    tokens,
    inputTokens,
    samples: rows,
  };
}
