import type { Initializer } from './index.ts';

/** A uniform in ±1/√in (He et al. 2015 with a = √5, as PyTorch's Linear), B zero: the adapter starts as no change. */
export const kaiming: Initializer = (device, { r, inFeatures, outFeatures }, seed, site) => {
  const bound = 1 / Math.sqrt(inFeatures);
  return {
    a: device.random([r, inFeatures], { seed, site, distribution: 'uniform' }).affine(2 * bound, -bound),
    b: device.zeros([outFeatures, r]),
  };
};
