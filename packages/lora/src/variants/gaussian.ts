import type { Initializer } from './index.ts';
import { embeddingStart } from './kaiming.ts';

/** A normal with deviation 1/r, B zero. */
export const gaussian: Initializer = (device, shape, seed, site) => {
  const { kind, r, inFeatures, outFeatures } = shape;
  if (kind === 'embedding') return embeddingStart(device, shape, seed, site);
  return {
    a: device.random([r, inFeatures], { seed, site }).mul(1 / r),
    b: device.zeros([outFeatures, r]),
  };
};
