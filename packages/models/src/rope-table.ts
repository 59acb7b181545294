import { check, type Device, keep, type Tensor } from '@lowrank/tensor';
import type { RopeConfig } from './config.ts';

/** Turns a position in radians for each pair of a head: theta^(−2i/R), changed by the scaling. */
export function inverseFrequencies(rope: RopeConfig, headDim: number): Float64Array {
  const width = Math.floor(headDim * (rope.partial ?? 1));
  const f32 = Math.fround;
  const factors = rope.scaling?.type === 'factors' ? rope.scaling.factors : undefined;
  check(
    !factors || factors.length === width / 2,
    'config',
    'one rope factor a pair',
    () => `${factors!.length} factors, ${width / 2} pairs`,
  );
  return Float64Array.from({ length: width / 2 }, (_, i) => {
    const f = f32(1 / f32(rope.theta ** ((2 * i) / width)));
    const s = rope.scaling;
    if (!s) return f;
    if (s.type === 'linear') return f32(f / s.factor);
    if (s.type === 'factors') return f32(f / factors![i]!);
    // Llama 3: long waves turn slower by `factor`, short ones stay, those between are blended
    const wave = (2 * Math.PI) / f;
    const low = s.originalMaxPositions / s.lowFreqFactor;
    const high = s.originalMaxPositions / s.highFreqFactor;
    if (wave > low) return f / s.factor;
    if (wave < high) return f;
    const smooth = (s.originalMaxPositions / wave - s.lowFreqFactor) / (s.highFreqFactor - s.lowFreqFactor);
    return ((1 - smooth) * f) / s.factor + smooth * f;
  });
}

/** cos and sin f32 [positions, R/2]. The caller disposes them. */
export function ropeTables(
  device: Device,
  rope: RopeConfig,
  headDim: number,
  positions: number,
): { cos: Tensor; sin: Tensor } {
  const inverse = inverseFrequencies(rope, headDim);
  const half = inverse.length;
  const cos = new Float32Array(positions * half);
  const sin = new Float32Array(positions * half);
  for (let p = 0; p < positions; p++)
    for (let i = 0; i < half; i++) {
      const angle = Math.fround(p * inverse[i]!);
      cos[p * half + i] = Math.cos(angle);
      sin[p * half + i] = Math.sin(angle);
    }
  return device.withClass('weights', () =>
    keep({
      cos: device.tensor(cos, { shape: [positions, half] }),
      sin: device.tensor(sin, { shape: [positions, half] }),
    }),
  );
}
