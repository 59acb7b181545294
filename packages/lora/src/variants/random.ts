import type { Initializer } from './index.ts';
import { kaiming } from './kaiming.ts';

/** A as `kaiming`, B uniform in ±1/√r; of an embedding both standard normal. The adapter changes the model from the start: for tests. */
export const random: Initializer = (device, shape, seed, site) => {
  const { kind, r, inFeatures, outFeatures } = shape;
  const other = { seed, site: site + 1 };
  if (kind === 'embedding')
    return { a: device.random([r, inFeatures], { seed, site }), b: device.random([outFeatures, r], other) };
  const bound = 1 / Math.sqrt(r);
  return {
    a: kaiming(device, shape, seed, site).a,
    b: device.random([outFeatures, r], { ...other, distribution: 'uniform' }).affine(2 * bound, -bound),
  };
};
