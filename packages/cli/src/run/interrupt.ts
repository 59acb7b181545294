/** Why a command ended before it was done: somebody stopped it. */
export class Interrupted extends Error {}

const signals = ['SIGINT', 'SIGTERM'] as const;

/** Ctrl-C (or a polite kill) asks a run to stop with a checkpoint; a second one ends the process at once. */
export function onInterrupt(tell: (signal: string) => void): Disposable & { readonly signal: AbortSignal } {
  const controller = new AbortController();
  const handle = (name: NodeJS.Signals) => {
    if (controller.signal.aborted) process.exit(130);
    controller.abort(new Interrupted(`stopped by ${name}`));
    tell(name);
  };
  for (const name of signals) process.on(name, handle);
  return {
    signal: controller.signal,
    [Symbol.dispose]: () => {
      for (const name of signals) process.off(name, handle);
    },
  };
}

/** Does something before Ctrl-C (or a polite kill) ends the process, as long as the scope lasts. */
export function onLeave(clean: () => void): Disposable {
  const leave = () => {
    clean();
    process.exit(130);
  };
  for (const name of signals) process.on(name, leave);
  return {
    [Symbol.dispose]: () => {
      for (const name of signals) process.off(name, leave);
    },
  };
}
