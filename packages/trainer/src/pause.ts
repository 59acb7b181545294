/** Lets the event loop run what waits: signals, timers, the page. */
function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}

/** Pauses whenever the thread was busy for this long. */
export class Pacer {
  readonly #milliseconds: number;
  #last = performance.now();

  constructor(milliseconds = 50) {
    this.#milliseconds = milliseconds;
  }

  async breathe(): Promise<void> {
    if (performance.now() - this.#last < this.#milliseconds) return;
    await pause();
    this.#last = performance.now();
  }
}
