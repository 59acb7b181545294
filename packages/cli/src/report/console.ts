import type { WriteStream } from 'node:tty';

/** Where a command speaks. With `--json`, standard output holds JSON lines alone, and words for people go to standard error. */
export class Console {
  readonly json: boolean;
  readonly #out: NodeJS.WriteStream;
  readonly #err: NodeJS.WriteStream;
  #shown = false;

  constructor(options: { json?: boolean | undefined; out?: NodeJS.WriteStream; err?: NodeJS.WriteStream } = {}) {
    this.json = options.json ?? false;
    this.#out = options.out ?? process.stdout;
    this.#err = options.err ?? process.stderr;
  }

  /** A terminal redraws its last line; a file or a pipe gets lines of their own. */
  get live(): boolean {
    return Boolean(this.#err.isTTY) && process.env.TERM !== 'dumb';
  }

  get columns(): number {
    return (this.#err as WriteStream).columns || 80;
  }

  /** A line for people. */
  say(text = ''): void {
    this.clear();
    (this.json ? this.#err : this.#out).write(`${text}\n`);
  }

  /** A line beside the work: what is being waited for, what was noticed. */
  note(text: string): void {
    this.clear();
    this.#err.write(`${text}\n`);
  }

  /** Text as it comes, with no line end. */
  write(text: string): void {
    this.clear();
    this.#out.write(text);
  }

  /** An object for machines, where they are asked for. */
  emit(value: object): void {
    if (this.json) this.#out.write(`${JSON.stringify(value)}\n`);
  }

  /** Replaces the line at the bottom of a terminal. */
  status(text: string): void {
    if (!this.live) return;
    this.#err.write(`\r\u001b[2K${text.slice(0, this.columns - 1)}`);
    this.#shown = true;
  }

  /** Takes the bottom line away. */
  clear(): void {
    if (!this.#shown) return;
    this.#err.write('\r\u001b[2K');
    this.#shown = false;
  }

  bold(text: string): string {
    return this.#out.isTTY && !process.env.NO_COLOR ? `\u001b[1m${text}\u001b[22m` : text;
  }

  dim(text: string): string {
    return this.#out.isTTY && !process.env.NO_COLOR ? `\u001b[2m${text}\u001b[22m` : text;
  }
}
