import type { Initializer } from './index.ts';

/** A uniform in ±1/√in (He et al. 2015 with a = √5, as PyTorch's Linear), B zero: the adapter starts as no change. */
export const kaiming: Initializer = (device, shape, seed, site) => {
  const { kind, r, inFeatures, outFeatures } = shape;
  if (kind === 'embedding') return embeddingStart(device, shape, seed, site);
  const bound = 1 / Math.sqrt(inFeatures);
  return {
    a: device.random([r, inFeatures], { seed, site, distribution: 'uniform' }).affine(2 * bound, -bound),
    b: device.zeros([outFeatures, r]),
  };
};

/** Of an embedding A is zero and B standard normal, however linear layers start. */
export const embeddingStart: Initializer = (device, { r, inFeatures, outFeatures }, seed, site) => ({
  a: device.zeros([r, inFeatures]),
  b: device.random([outFeatures, r], { seed, site }),
});
