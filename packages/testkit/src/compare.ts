import { roundTo } from '@lowrank/kernels';
import { type RefArray, type Tolerance, unitRoundoff } from '@lowrank/kernels/testing';

/** The smallest number that rounds to infinity. */
const overflow: Readonly<Record<string, number>> = {
  f32: 2 ** 128 - 2 ** 103,
  f16: 65520,
  bf16: 2 ** 128 - 2 ** 119,
};
/** Devices may flush results below this to zero. */
const tiny = 2 ** -126;

/** What one rounding to a float dtype may cost. */
function rounding(x: number, dtype: RefArray['dtype']): number {
  if (dtype === 'f16') return Math.max(Math.abs(x) * unitRoundoff.f16, 2 ** -25);
  return dtype === 'f32' || dtype === 'bf16' ? Math.abs(x) * unitRoundoff[dtype] : 0;
}

function largestFinite(data: Float64Array, from: number, to: number): number {
  let max = 0;
  for (let i = from; i < to; i++) {
    const v = Math.abs(data[i]!);
    if (v > max && v < Infinity) max = v;
  }
  return max;
}

/** Is `actual` what a device may give where the reference says `expected` (not rounded)? `allowed` counts beyond one rounding. */
function agrees(actual: number, expected: number, allowed: number, dtype: RefArray['dtype']): boolean {
  if (Number.isNaN(expected)) return Number.isNaN(actual);
  const rounded = roundTo(expected, dtype);
  if (Number.isFinite(rounded) && Number.isFinite(actual))
    return Math.abs(actual - expected) <= allowed + rounding(expected, dtype) + tiny;
  if (Object.is(actual, rounded)) return true;
  // Within reach of the end of the range, a device may fall on either side of it.
  return Math.sign(actual) === Math.sign(expected) && Math.abs(Math.abs(expected) - overflow[dtype]!) <= allowed;
}

/** Nothing when `actual` (as a device wrote it) agrees with `expected` (as the reference gave it), else a message with the facts. */
export function mismatch(actual: RefArray, expected: RefArray, tolerance: Tolerance): string | undefined {
  const { dtype, shape } = actual;
  const n = expected.data.length;
  const width = Math.max(shape[shape.length - 1] ?? 1, 1);
  const all = tolerance !== 'exact' && tolerance.all ? tolerance.all * largestFinite(expected.data, 0, n) : 0;
  let wrong = 0;
  let first = '';
  let rowLargest = 0;
  for (let i = 0; i < n; i++) {
    const a = actual.data[i]!;
    const e = expected.data[i]!;
    let good: boolean;
    let allowed = 0;
    if (tolerance === 'exact') good = Object.is(a, roundTo(e, dtype)) || (Number.isNaN(a) && Number.isNaN(e));
    else {
      if (tolerance.row && i % width === 0) rowLargest = largestFinite(expected.data, i, i + width);
      allowed =
        (tolerance.rel ?? 0) * (Number.isFinite(e) ? Math.abs(e) : 0) +
        (tolerance.row ?? 0) * rowLargest +
        all +
        (tolerance.abs ?? 0);
      good = agrees(a, e, allowed, dtype);
    }
    if (good) continue;
    if (wrong++ === 0)
      first = `at [${indexOf(i, shape)}] got ${show(a)}, expected ${show(e)} ± ${allowed.toExponential(2)} (${dtype})`;
  }
  return wrong ? `${wrong} of ${n} elements of [${shape}] differ; first ${first}` : undefined;
}

/** −0 shows its sign. */
const show = (x: number) => (Object.is(x, -0) ? '-0' : String(x));

function indexOf(i: number, shape: readonly number[]): number[] {
  const out: number[] = [];
  let rest = i;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    out.unshift(rest % shape[axis]!);
    rest = Math.floor(rest / shape[axis]!);
  }
  return out;
}
