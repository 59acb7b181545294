import { type Device, gradients, noGrad, scope, type Tensor } from '@lowrank/tensor';

export interface GradientOptions {
  /** Step of the central difference. */
  readonly step?: number;
  /** Largest difference allowed, as a share of the largest derivative seen (at least 1). */
  readonly tolerance?: number;
  /** Random directions tried for each input, besides every single element of inputs of up to 24. */
  readonly directions?: number;
}

/** A plain input of a function under test: numbers for an f32 tensor. */
export interface GradientInput {
  readonly shape: readonly number[];
  readonly data: ArrayLike<number>;
  /** False: a constant. */
  readonly differentiate?: boolean;
}

function* directionsOf(size: number, random: number): Generator<Float64Array> {
  if (size <= 24) for (let i = 0; i < size; i++) yield Float64Array.from({ length: size }, (_, j) => (i === j ? 1 : 0));
  let state = 12345;
  for (let k = 0; k < random; k++)
    yield Float64Array.from({ length: size }, () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return state / 2 ** 31 - 1;
    });
}

/**
 * Compares the gradients of Σ w·fn(inputs), for fixed weights w, with central differences of it, along single elements and random
 * directions. The differences are summed in f64 from f32 results, so functions should be of size 1 or so. Throws with the facts.
 */
export async function checkGradient(
  device: Device,
  fn: (...inputs: Tensor[]) => Tensor,
  inputs: readonly GradientInput[],
  { step = 2 ** -7, tolerance = 2e-3, directions = 2 }: GradientOptions = {},
): Promise<void> {
  const tensorsOf = (data: readonly ArrayLike<number>[]) =>
    inputs.map(({ shape }, i) => device.tensor(Float32Array.from(data[i]!), { shape, dtype: 'f32' }));
  const weight = (i: number) => Math.cos(1 + 2.3 * i); // no two outputs weigh the same
  const evaluate = async (data: readonly ArrayLike<number>[]): Promise<number> => {
    const y = scope(() => noGrad(() => fn(...tensorsOf(data))));
    const values = Float64Array.from(await y.toArray());
    y.dispose();
    return values.reduce((sum, v, i) => sum + weight(i) * v, 0);
  };

  const exact = inputs.map(({ data }) => Float32Array.from(data));
  const found = scope(() => {
    const tensors = tensorsOf(exact);
    for (const [i, tensor] of tensors.entries()) tensor.requireGrad(inputs[i]!.differentiate ?? true);
    const y = fn(...tensors);
    const seed = device.tensor(
      Float32Array.from({ length: y.size }, (_, i) => weight(i)),
      { shape: y.shape, dtype: y.dtype },
    );
    return gradients(y, tensors, seed).map((g) => g?.contiguous());
  });
  const analytic = await Promise.all(found.map(async (g) => (g ? Float64Array.from(await g.toArray()) : undefined)));
  for (const g of found) g?.dispose();

  const problems: string[] = [];
  for (const [n, input] of inputs.entries()) {
    if (input.differentiate === false) continue;
    const gradient = analytic[n];
    if (!gradient) throw new Error(`checkGradient: input ${n} got no gradient`);
    for (const direction of directionsOf(gradient.length, directions)) {
      const moved = (sign: number) =>
        exact.map((data, i) => (i === n ? data.map((v, j) => v + sign * step * direction[j]!) : data));
      const numeric = ((await evaluate(moved(1))) - (await evaluate(moved(-1)))) / (2 * step);
      const claimed = gradient.reduce((sum, g, j) => sum + g * direction[j]!, 0);
      if (!(Math.abs(numeric - claimed) <= tolerance * Math.max(1, Math.abs(numeric))))
        problems.push(
          `input ${n} along [${direction.slice(0, 6).map((v) => +v.toFixed(3))}…]: rule ${claimed}, differences ${numeric}`,
        );
    }
  }
  if (problems.length)
    throw new Error(`checkGradient: ${problems.length} directions differ: ${problems.slice(0, 3).join('; ')}`);
}
