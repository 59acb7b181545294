import { philox } from '@lowrank/tensor';

/** Philox streams that shuffling draws from; dropout is stream 0. */
export const sampleStream = 1;
const batchStream = 2;

/** 32-bit words of Philox under a seed, for an epoch and a stream: the numbers of host-side shuffles. */
function* words(seed: number, epoch: number, stream: number): Generator<number, never> {
  const key = [seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0] as const;
  for (let block = 0; ; block++) yield* philox([block, 0, epoch, stream], key);
}

/** `items` in an order that is a function of seed, epoch and stream alone (Fisher and Yates): nothing of it needs to be saved. */
export function shuffled<T>(items: readonly T[], seed: number, epoch: number, stream: number): T[] {
  const out = [...items];
  const random = words(seed, epoch, stream);
  for (let i = out.length - 1; i > 0; i--) {
    const j = Math.floor((random.next().value / 2 ** 32) * (i + 1));
    [out[i], out[j]] = [out[j]!, out[i]!];
  }
  return out;
}

/** Batches in one grouping window: large enough that a batch's samples are about equally long, small enough that order stays random. */
const windowBatches = 50;

/**
 * Indices cut into batches of samples of about the same length: windows of the given order are sorted, longest first. The batch with the
 * longest sample comes first, so that memory that does not suffice shows at once; the others come in a random order.
 */
export function groupedByLength(
  order: readonly number[],
  lengths: readonly number[],
  batchSize: number,
  seed: number,
  epoch: number,
): number[][] {
  const batches: number[][] = [];
  const window = batchSize * windowBatches;
  for (let at = 0; at < order.length; at += window) {
    const part = order.slice(at, at + window).sort((a, b) => lengths[b]! - lengths[a]! || a - b);
    for (let i = 0; i < part.length; i += batchSize) batches.push(part.slice(i, i + batchSize));
  }
  const mixed = shuffled(batches, seed, epoch, batchStream);
  let longest = 0;
  mixed.forEach((batch, i) => {
    if (lengths[batch[0]!]! > lengths[mixed[longest]![0]!]!) longest = i;
  });
  if (mixed.length) mixed.unshift(...mixed.splice(longest, 1));
  return mixed;
}
