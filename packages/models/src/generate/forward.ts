import { type Device, keep, noGrad, scope, slice, type Tensor } from '@lowrank/tensor';
import type { CausalLm } from '../decoder.ts';
import { KvCache } from '../kv-cache.ts';

/**
 * Runs a batch of prompts of different lengths token by token. Shorter prompts are padded on the left; `starts` keeps their queries from
 * the padding, and positions count from each prompt's own first token, so a prompt's logits do not depend on its neighbours.
 */
export class BatchForward implements Disposable {
  readonly #model: CausalLm;
  readonly #pads: readonly number[];
  readonly #cache: KvCache | undefined;
  /** Ids of each row, padding included; all of one length. */
  readonly #rows: number[][];

  /** `capacity`: tokens of the longest row at the end. Without `useCache` every step computes all tokens again. */
  constructor(model: CausalLm, prompts: readonly (readonly number[])[], capacity: number, useCache: boolean) {
    const longest = Math.max(...prompts.map((p) => p.length));
    this.#model = model;
    this.#pads = prompts.map((p) => longest - p.length);
    this.#rows = prompts.map((p, i) => [...new Array<number>(this.#pads[i]!).fill(p[0]!), ...p]);
    this.#cache = useCache
      ? new KvCache(model.device, model.config, prompts.length, capacity, model.computeDtype)
      : undefined;
  }

  /** Adds a token to each row. */
  append(ids: readonly number[]): void {
    for (const [i, row] of this.#rows.entries()) row.push(ids[i]!);
  }

  /** Logits of the token after each row's last: one array [V] a row. */
  async logits(): Promise<Float32Array[]> {
    const { device } = this.#model;
    using logits = noGrad(() => keep(scope(() => this.#last(device))));
    const all = (await logits.toArray()) as Float32Array;
    const width = logits.shape[1]!;
    return this.#rows.map((_, i) => all.subarray(i * width, (i + 1) * width));
  }

  /** [B, V] */
  #last(device: Device): Tensor {
    const from = this.#cache?.length ?? 0;
    const fresh = this.#rows.map((row) => row.slice(from));
    const t = fresh[0]!.length;
    const b = fresh.length;
    const table = (value: (pad: number, at: number) => number) =>
      device.tensor(
        Int32Array.from({ length: b * t }, (_, i) => value(this.#pads[Math.floor(i / t)]!, from + (i % t))),
        { shape: [b, t], dtype: 'i32' },
      );
    const ids = device.tensor(Int32Array.from(fresh.flat()), { shape: [b, t], dtype: 'i32' });
    const padded = this.#pads.some((p) => p > 0);
    const hidden = this.#model.hidden(ids, {
      positions: table((pad, at) => Math.max(0, at - pad)),
      ...(padded ? { starts: table((pad) => pad) } : {}),
      ...(this.#cache ? { cache: this.#cache } : {}),
    });
    return this.#model.head(slice(hidden, 1, t - 1, t).reshape([b, hidden.shape[2]!]));
  }

  [Symbol.dispose](): void {
    this.#cache?.[Symbol.dispose]();
  }
}
