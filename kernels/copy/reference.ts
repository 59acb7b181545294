import { defineReference, mapArray } from '../common/reference.ts';
import type { Copy } from './contract.ts';

export const reference = defineReference<Copy>(({ x }) => ({ y: mapArray(x, (v) => v) }));
