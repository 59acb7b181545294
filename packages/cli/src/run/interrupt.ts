/** Why a command ended before it was done: somebody stopped it. */
export class Interrupted extends Error {}

/** Ctrl-C (or a polite kill) asks a run to stop with a checkpoint; a second one ends the process at once. */
export function onInterrupt(tell: (signal: string) => void): Disposable & { readonly signal: AbortSignal } {
  const controller = new AbortController();
  const handle = (name: NodeJS.Signals) => {
    if (controller.signal.aborted) process.exit(130);
    controller.abort(new Interrupted(`stopped by ${name}`));
    tell(name);
  };
  const names: NodeJS.Signals[] = ['SIGINT', 'SIGTERM'];
  for (const name of names) process.on(name, handle);
  return {
    signal: controller.signal,
    [Symbol.dispose]: () => {
      for (const name of names) process.off(name, handle);
    },
  };
}
