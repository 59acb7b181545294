import type { Initializer } from './index.ts';

/** A normal with deviation 1/r, B zero. */
export const gaussian: Initializer = (device, { r, inFeatures, outFeatures }, seed, site) => ({
  a: device.random([r, inFeatures], { seed, site }).mul(1 / r),
  b: device.zeros([outFeatures, r]),
});
