import { uniformFromBits } from '../common/philox.ts';
import { defineReference, mapArray } from '../common/reference.ts';
import { philoxWords } from '../random/reference.ts';
import type { Dropout } from './contract.ts';

export const reference = defineReference<Dropout>(({ x, seed }, { p, site }) => {
  const words = philoxWords(seed, site, x.data.length);
  const bound = Math.fround(p);
  return { y: mapArray(x, (v, i) => (uniformFromBits(words[i]!) >= bound ? v / (1 - p) : 0)) };
});
