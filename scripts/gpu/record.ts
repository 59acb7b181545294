/** What the scripts for a GPU machine share: a line of JSON an outcome, and the exit code. */
import { appendFileSync } from 'node:fs';

/** Appends records to a file, prints them in short, and remembers whether all went well. */
export class Records {
  readonly #path: string | undefined;
  failed = 0;

  constructor(path: string | undefined) {
    this.#path = path;
  }

  add(record: { readonly name: string; readonly ok?: boolean; readonly [key: string]: unknown }): void {
    if (record.ok === false) this.failed++;
    const line = JSON.stringify(record);
    console.log(line.length > 900 ? `${line.slice(0, 900)}…` : line);
    if (this.#path) appendFileSync(this.#path, `${line}\n`);
  }

  /** Runs a part; what it throws is its outcome. */
  async part(name: string, body: () => Promise<Readonly<Record<string, unknown>> & { readonly ok: boolean }>) {
    const began = performance.now();
    const outcome = await body().catch((error: unknown) => ({
      ok: false,
      error: error instanceof Error ? (error.stack ?? error.message) : String(error),
    }));
    this.add({ kind: 'fault', name, ...outcome, seconds: Number(((performance.now() - began) / 1000).toFixed(1)) });
  }
}

/** Bytes of `/proc/self/status` (VmRSS, VmHWM) and the like. */
export function processBytes(status: string, key: string): number {
  return Number(new RegExp(`^${key}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? Number.NaN) * 1024;
}
