import { copyInto, type Device, keep, reshape, scope, slice, type Tensor } from '@lowrank/tensor';

/** Steps whose results the device can hold before they are read. */
const capacity = 256;

/** Results of steps, kept on the device and read many at a time, so that no step waits for the host. `T` is what the host knows of a step. */
export class LossLog<T> implements Disposable {
  readonly #ring: Tensor;
  #pending: T[] = [];

  constructor(device: Device) {
    this.#ring = keep(device.withClass('workspace', () => device.zeros([capacity, 2])));
  }

  /** Steps not yet read. */
  get size(): number {
    return this.#pending.length;
  }

  get full(): boolean {
    return this.#pending.length >= capacity;
  }

  /** Takes over a step's result f32 [2]: loss, gradient norm. */
  push(result: Tensor, known: T): void {
    const i = this.#pending.length;
    scope(() => {
      copyInto(result, reshape(slice(this.#ring, 0, i, i + 1), [2]));
    });
    this.#pending.push(known);
  }

  /** Asks for all results not yet read. What is pushed from now on does not disturb them. */
  read(): Promise<{ readonly known: T; readonly loss: number; readonly gradNorm: number }[]> {
    const steps = this.#pending;
    this.#pending = [];
    const values = scope(() => ({ array: slice(this.#ring, 0, 0, steps.length).toArray() })).array;
    return values.then((v) => steps.map((known, i) => ({ known, loss: v[2 * i]!, gradNorm: v[2 * i + 1]! })));
  }

  [Symbol.dispose](): void {
    this.#ring.dispose();
  }
}
