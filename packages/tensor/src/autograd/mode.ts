import type { Tensor } from '../tensor.ts';

/** Whether ops record how to go back. On by default. */
let enabled = true;

export function gradEnabled(): boolean {
  return enabled;
}

/** Runs `fn` (not async) with recording switched. */
export function withGrad<T>(on: boolean, fn: () => T): T {
  const before = enabled;
  enabled = on;
  try {
    return fn();
  } finally {
    enabled = before;
  }
}

/** Runs `fn` without recording: results are constants for every later backward pass. */
export function noGrad<T>(fn: () => T): T {
  return withGrad(false, fn);
}

/** True while `backward` runs, whose results belong in the leaves' own gradients. */
let placing = false;

export function withPlacing<T>(on: boolean, fn: () => T): T {
  const before = placing;
  placing = on;
  try {
    return fn();
  } finally {
    placing = before;
  }
}

/** A leaf's gradient that holds zeros and may be overwritten instead of added to. */
export function freshGradient(leaf: Tensor | undefined): Tensor | undefined {
  return placing && leaf && !leaf.node && leaf.requiresGrad && leaf.freshGrad && leaf.grad?.isContiguous
    ? leaf.grad
    : undefined;
}
