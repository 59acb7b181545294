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
