import {
  check,
  copyInto,
  type Device,
  type FloatDType,
  keep,
  noGrad,
  scope,
  slice,
  type Tensor,
} from '@lowrank/tensor';
import type { DecoderConfig } from './config.ts';

/** Keys and values of the tokens so far, so that generation computes only the new ones. */
export class KvCache implements Disposable {
  readonly capacity: number;
  readonly #keys: Tensor[];
  readonly #values: Tensor[];
  /** Tokens that are in the cache. */
  length = 0;

  constructor(device: Device, config: DecoderConfig, batch: number, capacity: number, dtype: FloatDType) {
    this.capacity = capacity;
    const make = () =>
      Array.from({ length: config.layers }, () =>
        device.withClass('activations', () =>
          keep(device.empty([batch, capacity, config.kvHeads, config.headDim], dtype)),
        ),
      );
    this.#keys = make();
    this.#values = make();
  }

  /** Appends k and v [B, T, Hkv, D] of a layer; gives views of all keys and values so far, these included. */
  append(layer: number, k: Tensor, v: Tensor): { k: Tensor; v: Tensor } {
    const end = this.length + k.shape[1]!;
    check(end <= this.capacity, 'generate', 'the cache is full', `${end} tokens, room for ${this.capacity}`);
    return noGrad(() =>
      scope(() => {
        copyInto(k, slice(this.#keys[layer]!, 1, this.length, end));
        copyInto(v, slice(this.#values[layer]!, 1, this.length, end));
        return { k: slice(this.#keys[layer]!, 1, 0, end), v: slice(this.#values[layer]!, 1, 0, end) };
      }),
    );
  }

  [Symbol.dispose](): void {
    for (const t of [...this.#keys, ...this.#values]) t.dispose();
  }
}
