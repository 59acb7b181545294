import { check, LowrankError, philox } from '@lowrank/tensor';

export interface SamplingOptions {
  /** 0 (default) takes the likeliest token; 1 samples from the model's own distribution. */
  readonly temperature?: number;
  /** Sample among this many likeliest tokens; 0 or absent: all. Ties go to the lower id. */
  readonly topK?: number;
  /** Sample among the likeliest tokens that together reach this probability; 1 or absent: all. */
  readonly topP?: number;
  /** One seed gives one text, on every backend. 0 by default. */
  readonly seed?: number;
}

/** Chooses tokens from logits. Draws come from Philox: token `step` of prompt `row` takes counter [step, row, 0, 1] under the seed. */
export class Sampler {
  readonly #temperature: number;
  readonly #topK: number;
  readonly #topP: number;
  readonly #key: [number, number];

  constructor({ temperature = 0, topK = 0, topP = 1, seed = 0 }: SamplingOptions = {}) {
    check(
      temperature >= 0 && Number.isFinite(temperature),
      'generate',
      'temperature must be 0 or more',
      String(temperature),
    );
    check(Number.isInteger(topK) && topK >= 0, 'generate', 'topK must be a whole number, 0 for all', String(topK));
    check(topP > 0 && topP <= 1, 'generate', 'topP must be above 0 and at most 1', String(topP));
    check(Number.isSafeInteger(seed) && seed >= 0, 'generate', 'seed must be a whole number, 0 or more', String(seed));
    this.#temperature = temperature;
    this.#topK = topK;
    this.#topP = topP;
    this.#key = [seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0];
  }

  /** A token id for logits [V]. Throws where they hold a NaN or no finite number. */
  pick(logits: Float32Array, row: number, step: number): number {
    const best = argmax(logits);
    if (this.#temperature === 0 || this.#topK === 1) return best;
    const ids = this.#candidates(logits, best);
    const weights = ids.map((id) => Math.exp((logits[id]! - logits[best]!) / this.#temperature));
    let total = 0;
    for (const w of weights) total += w;
    let rest = this.#uniform(row, step) * total;
    for (let i = 0; i < ids.length; i++) {
      rest -= weights[i]!;
      if (rest < 0) return ids[i]!;
    }
    // Rounding may leave a rest: it belongs to the last token that can be drawn at all.
    return ids[weights.findLastIndex((w) => w > 0)]!;
  }

  /** Ids that may be drawn, likeliest first; in the vocabulary's order where all may. */
  #candidates(logits: Float32Array, best: number): number[] {
    const all = logits.length;
    const k = this.#topK === 0 ? all : Math.min(this.#topK, all);
    if (k === all && this.#topP === 1) return Array.from({ length: all }, (_, i) => i);
    const sorted = Float32Array.from(logits).sort();
    const count = Math.min(k, this.#topP === 1 ? all : this.#nucleus(logits, sorted, k, logits[best]!));
    const threshold = sorted[all - count]!;
    const ids: number[] = [];
    for (let i = 0; i < all; i++) if (logits[i]! >= threshold) ids.push(i);
    return ids.sort((a, b) => logits[b]! - logits[a]! || a - b).slice(0, count);
  }

  /** How many of the `k` likeliest tokens it takes to reach topP of their probability. `sorted` is ascending. */
  #nucleus(logits: Float32Array, sorted: Float32Array, k: number, top: number): number {
    const weight = (i: number) => Math.exp((sorted[logits.length - 1 - i]! - top) / this.#temperature);
    let total = 0;
    for (let i = 0; i < k; i++) total += weight(i);
    let before = 0;
    let count = 0;
    while (count < k && before < this.#topP * total) before += weight(count++);
    return Math.max(1, count);
  }

  /** In [0, 1), 53 bits. */
  #uniform(row: number, step: number): number {
    const [a, b] = philox([step, row, 0, 1], this.#key);
    return ((a >>> 5) * 2 ** 26 + (b >>> 6)) / 2 ** 53;
  }
}

/** The first of the largest. */
function argmax(logits: Float32Array): number {
  let best = -1;
  let top = -Infinity;
  for (let i = 0; i < logits.length; i++) {
    const x = logits[i]!;
    if (x > top) {
      top = x;
      best = i;
    } else if (Number.isNaN(x))
      throw new LowrankError(
        'generate',
        'the logits hold NaN',
        `token ${i}`,
        'The weights are damaged, or the model diverged in training',
      );
  }
  check(best >= 0 && top < Infinity, 'generate', 'the logits hold no finite number', () => `largest ${top}`);
  return best;
}
