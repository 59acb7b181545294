import { check } from '@lowrank/tensor';

/** Samples that are fitted to each other at a time. */
const windowSamples = 2048;

/**
 * Rows of at most `capacity` tokens, each a list of samples. Windows of the order are packed by best fit, longest first; with `inOrder`
 * samples stay in their order, and a row ends where the next one does not fit.
 */
export function pack(
  order: readonly number[],
  lengths: readonly number[],
  capacity: number,
  inOrder: boolean,
): number[][] {
  for (const i of order)
    check(
      lengths[i]! <= capacity,
      'packing',
      'a sample is longer than a row',
      () => `sample ${i}: ${lengths[i]} tokens, rows of ${capacity}`,
      'Raise maxLength, or cut samples',
    );
  if (inOrder) return nextFit(order, lengths, capacity);
  const rows: number[][] = [];
  for (let at = 0; at < order.length; at += windowSamples)
    rows.push(...bestFit(order.slice(at, at + windowSamples), lengths, capacity));
  return rows;
}

function nextFit(order: readonly number[], lengths: readonly number[], capacity: number): number[][] {
  const rows: number[][] = [];
  let left = 0;
  for (const i of order) {
    if (lengths[i]! > left) {
      rows.push([]);
      left = capacity;
    }
    rows[rows.length - 1]!.push(i);
    left -= lengths[i]!;
  }
  return rows;
}

function bestFit(order: readonly number[], lengths: readonly number[], capacity: number): number[][] {
  const byLength = order
    .map((sample, at) => ({ sample, at }))
    .sort((a, b) => lengths[b.sample]! - lengths[a.sample]! || a.at - b.at);
  const rows: { samples: number[]; first: number }[] = [];
  /** Rows by the room they have left. */
  const room = Array.from({ length: capacity + 1 }, () => [] as number[]);
  for (const { sample, at } of byLength) {
    const need = lengths[sample]!;
    let space = need;
    while (space <= capacity && room[space]!.length === 0) space++;
    let row: number;
    if (space <= capacity) row = room[space]!.pop()!;
    else {
      row = rows.length;
      rows.push({ samples: [], first: at });
      space = capacity;
    }
    const { samples } = rows[row]!;
    samples.push(sample);
    rows[row]!.first = Math.min(rows[row]!.first, at);
    room[space - need]!.push(row);
  }
  // in the order that the window had, so that a shuffled order stays shuffled
  return rows.sort((a, b) => a.first - b.first).map((r) => r.samples);
}
