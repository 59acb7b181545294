import type { Device, Tensor } from '@lowrank/tensor';
import type { InitLoraWeights } from '../config.ts';
import { gaussian } from './gaussian.ts';
import { kaiming } from './kaiming.ts';
import { random } from './random.ts';

/** One low-rank pair: A [r, inFeatures], B [outFeatures, r]. Of an embedding, `inFeatures` are rows and `outFeatures` its width. */
export interface PairShape {
  readonly kind: 'linear' | 'embedding';
  readonly r: number;
  readonly inFeatures: number;
  readonly outFeatures: number;
}

/** How the pair of one layer starts. `site` makes its random numbers its own. */
export type Initializer = (device: Device, shape: PairShape, seed: Tensor, site: number) => { a: Tensor; b: Tensor };

/** By the value of `initLoraWeights`. A new one is a file beside these and a row here. */
export const initializers: ReadonlyMap<InitLoraWeights, Initializer> = new Map<InitLoraWeights, Initializer>([
  [true, kaiming],
  ['gaussian', gaussian],
  [false, random],
]);
