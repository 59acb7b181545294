/** What is used of Node's process object, where there is one. */
interface NodeProcess {
  readonly versions?: { readonly node?: string };
  on(event: 'exit', listener: () => void): unknown;
}

/** Node's process object; undefined in browsers. Looked up on the global object, so that this package loads anywhere. */
export function nodeProcess(): NodeProcess | undefined {
  return (globalThis as { process?: NodeProcess }).process;
}
