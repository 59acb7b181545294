import { philox, uniformFromBits } from '../common/philox.ts';
import { defineReference, type RefArray, zeros } from '../common/reference.ts';
import { sizeOf } from '../common/view.ts';
import type { Random } from './contract.ts';

/** The raw words of elements 0 … count − 1 (count rounded up to whole counters). `seed` holds seedLo, seedHi, step, stream. */
export function philoxWords(seed: RefArray, site: number, count: number): number[] {
  const [lo, hi, step, stream] = seed.data as unknown as [number, number, number, number];
  const words: number[] = [];
  for (let block = 0; 4 * block < count; block++) words.push(...philox([block, site, step, stream], [lo, hi]));
  return words;
}

export const reference = defineReference<Random>(({ seed }, { shape, dtype, distribution, site }) => {
  const y = zeros(shape, dtype);
  const n = sizeOf(shape);
  const words = philoxWords(seed, site, n);
  for (let i = 0; i < n; i++) {
    const word = words[i]!;
    if (distribution === 'bits') y.data[i] = word;
    else if (distribution === 'uniform') y.data[i] = uniformFromBits(word);
    else {
      const u = uniformFromBits(words[i & ~1]!) + 2 ** -24; // in (0, 1]
      const v = uniformFromBits(words[i | 1]!);
      const r = Math.sqrt(-2 * Math.log(u));
      y.data[i] = i & 1 ? r * Math.sin(2 * Math.PI * v) : r * Math.cos(2 * Math.PI * v);
    }
  }
  return { y };
});
