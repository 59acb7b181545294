import type { Initializer } from './index.ts';
import { kaiming } from './kaiming.ts';

/** A as `kaiming`, B uniform in ±1/√r: the adapter changes the model from the start. For tests. */
export const random: Initializer = (device, shape, seed, site) => {
  const bound = 1 / Math.sqrt(shape.r);
  const { a, b } = kaiming(device, shape, seed, site);
  b.dispose();
  return {
    a,
    b: device
      .random([shape.outFeatures, shape.r], { seed, site: site + 1, distribution: 'uniform' })
      .affine(2 * bound, -bound),
  };
};
