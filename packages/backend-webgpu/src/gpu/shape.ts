/** A shape with the strides of several operands over it. */
export interface Axes {
  readonly shape: readonly number[];
  readonly strides: readonly (readonly number[])[];
}

/** Drops axes of length 1 and joins neighbours that every operand walks evenly. The order of elements stays. */
export function collapse(shape: readonly number[], strides: readonly (readonly number[])[]): Axes {
  const axes: number[] = [];
  const steps: number[][] = strides.map(() => []);
  for (let i = 0; i < shape.length; i++) {
    const d = shape[i]!;
    if (d === 1) continue;
    const last = axes.length - 1;
    if (last >= 0 && strides.every((s, k) => steps[k]![last] === s[i]! * d)) {
      axes[last] = axes[last]! * d;
      strides.forEach((s, k) => {
        steps[k]![last] = s[i]!;
      });
    } else {
      axes.push(d);
      strides.forEach((s, k) => {
        steps[k]!.push(s[i]!);
      });
    }
  }
  return { shape: axes, strides: steps };
}

/** Four axes, padded in front with length 1 and stride 0. */
export function four(values: readonly number[], pad: number): [number, number, number, number] {
  const at = values.length;
  return [values[at - 4] ?? pad, values[at - 3] ?? pad, values[at - 2] ?? pad, values[at - 1] ?? pad];
}

/** As `collapse`, but the last axis stays by itself, even when its length is 1. */
export function collapseRows(shape: readonly number[], strides: readonly (readonly number[])[]): Axes {
  const last = shape.length - 1;
  const rows = collapse(
    shape.slice(0, last),
    strides.map((s) => s.slice(0, last)),
  );
  return { shape: [...rows.shape, shape[last]!], strides: rows.strides.map((s, k) => [...s, strides[k]![last]!]) };
}
