import { appendFileSync, readFileSync } from 'node:fs';
import { bytesOf, contiguousStrides, type DType, f16Value, sizeOf, type View } from '@lowrank/kernels';
import { adapterFacts, findAdapter, openDevice, type WebGpuOptions } from '../src/adapter.ts';
import { createBackend, type WebGpuBackend } from '../src/backend.ts';
import { wgsl } from '../src/generated/wgsl.ts';
import type { Launcher } from '../src/gpu/launcher.ts';
import { tryMatrices } from '../src/probe.ts';

/**
 * A device with timers; each measurement is a line on the screen and in the record. LOWRANK_COMMIT and LOWRANK_DRIVER are noted there;
 * LOWRANK_WGSL names a JSON file with other texts of shader files, by path, to try them.
 */
export class Bench {
  readonly backend: WebGpuBackend;
  readonly launcher: Launcher;
  readonly #record: string | undefined;
  readonly #seed: View;
  readonly #filters: readonly string[];
  readonly #facts: object;
  #site = 0;

  static async open(
    options: WebGpuOptions & { readonly matrices: boolean },
    record: string | undefined,
    filters: readonly string[],
  ): Promise<Bench> {
    const { LOWRANK_WGSL: other } = process.env;
    if (other) Object.assign(wgsl, JSON.parse(readFileSync(other, 'utf8')));
    const adapter = await findAdapter(options);
    const device = await openDevice(adapter, options.features);
    const { backend, launcher } = createBackend(device, adapterFacts(adapter.info, device));
    if (options.matrices) await tryMatrices(backend, launcher, adapter.info);
    return new Bench(backend, launcher, record, filters);
  }

  private constructor(
    backend: WebGpuBackend,
    launcher: Launcher,
    record: string | undefined,
    filters: readonly string[],
  ) {
    this.backend = backend;
    this.launcher = launcher;
    this.#record = record;
    this.#filters = filters;
    this.#seed = this.empty([4], 'u32');
    backend.memory.write(this.#seed.buffer, 0, new Uint8Array(Uint32Array.of(7, 11, 0, 0).buffer));
    this.#facts = {
      commit: process.env.LOWRANK_COMMIT,
      device: backend.caps.device,
      driver: process.env.LOWRANK_DRIVER,
      command: `ops ${process.argv.slice(2).join(' ')}`.trim(),
      date: new Date().toISOString(),
    };
    this.add({ name: 'adapter', features: backend.caps.features, variants: backend.variants() });
  }

  /** Whether a name is asked for. */
  wants(name: string): boolean {
    return this.#filters.length === 0 || this.#filters.some((f) => name.includes(f));
  }

  add(line: { readonly name: string; readonly [figure: string]: unknown }): void {
    console.log(JSON.stringify(line));
    if (this.#record) appendFileSync(this.#record, `${JSON.stringify({ kind: 'kernel', ...this.#facts, ...line })}\n`);
  }

  empty(shape: readonly number[], dtype: DType): View {
    return {
      buffer: this.backend.memory.allocate(Math.max(sizeOf(shape), 1) * bytesOf[dtype]),
      byteOffset: 0,
      dtype,
      shape,
      strides: contiguousStrides(shape),
    };
  }

  /** Standard normal numbers; the dtype's bits for integers. */
  random(shape: readonly number[], dtype: DType): View {
    const y = this.empty(shape, dtype);
    const whole = dtype === 'u8' || dtype === 'u32' || dtype === 'i32';
    const words = Math.floor((sizeOf(shape) * bytesOf[dtype]) / 4);
    const flat: View = whole
      ? { ...y, dtype: 'u32', shape: [words], strides: [1] }
      : { ...y, shape: [sizeOf(shape)], strides: [1] };
    this.backend.primitives.random({
      inputs: { seed: this.#seed },
      outputs: { y: flat },
      attrs: { shape: flat.shape, dtype: flat.dtype, distribution: whole ? 'bits' : 'normal', site: this.#site++ },
    });
    return y;
  }

  free(...views: readonly View[]): void {
    for (const { buffer } of views) this.backend.memory.release(buffer);
  }

  /** `count` numbers of a contiguous tensor from element `from` on. */
  async values({ buffer, byteOffset, dtype }: View, from: number, count: number): Promise<Float64Array> {
    const size = bytesOf[dtype];
    const raw = Uint8Array.from(await this.backend.memory.read(buffer, byteOffset + from * size, count * size)).buffer;
    if (dtype === 'f32') return Float64Array.from(new Float32Array(raw));
    const codes = new Uint16Array(raw);
    if (dtype === 'f16') return Float64Array.from(codes, f16Value);
    return Float64Array.from(new Float32Array(Uint32Array.from(codes, (c) => c << 16).buffer));
  }

  /**
   * Times `run` by timestamps where the device has them, else by the clock: the median of nine, fastest and slowest, of some calls each.
   * `flops` and `bytes` of one call become rates. `check` gives the error against f64, measured before.
   */
  async time(
    name: string,
    run: () => void,
    facts: { readonly flops?: number; readonly bytes?: number; readonly check?: () => Promise<number> },
  ): Promise<void> {
    if (!this.wants(name)) return;
    const { backend } = this;
    try {
      run();
      await backend.synchronize();
      const error = await facts.check?.();
      const clock = async (n: number) => {
        const t = performance.now();
        for (let i = 0; i < n; i++) run();
        await backend.synchronize();
        return (performance.now() - t) / n;
      };
      const once = await clock(2);
      const calls = Math.max(1, Math.min(40, Math.ceil(30 / once)));
      const stamps = backend.caps.features?.includes('timestamp-query') ?? false;
      const many = () => {
        for (let i = 0; i < calls; i++) run();
      };
      await clock(calls);
      const samples: number[] = [];
      for (let i = 0; i < 9; i++)
        samples.push(stamps ? (await backend.gpuTime(many)) / calls / 1e3 : (await clock(calls)) * 1e3);
      samples.sort((a, b) => a - b);
      const [fastest, median, slowest] = [samples[0]!, samples[4]!, samples[8]!];
      this.add({
        name,
        microseconds: round(median),
        fastest: round(fastest),
        slowest: round(slowest),
        calls,
        timer: stamps ? 'timestamps' : 'clock',
        ...(facts.flops && { teraflops: round(facts.flops / median / 1e6) }),
        ...(facts.bytes && { gigabytesPerSecond: round(facts.bytes / median / 1e3) }),
        ...(error !== undefined && { error: round(error) }),
      });
    } catch (error) {
      this.add({ name, failed: String(error).slice(0, 600) });
    }
  }
}

export const round = (x: number): number => Number(x.toPrecision(4));

/** ‖a − b‖ / ‖b‖; NaN counts as infinite. */
export function relativeError(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [off, all] = [0, 0];
  for (let i = 0; i < b.length; i++) {
    off += (a[i]! - b[i]!) ** 2;
    all += b[i]! ** 2;
  }
  const e = Math.sqrt(off / all);
  return Number.isNaN(e) ? Infinity : e;
}
