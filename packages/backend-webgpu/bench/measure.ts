import { appendFileSync, readFileSync } from 'node:fs';
import { bytesOf, contiguousStrides, type DType, f16Value, sizeOf, type View } from '@lowrank/kernels';
import { adapterFacts, findAdapter, openDevice, type WebGpuOptions } from '../src/adapter.ts';
import { createBackend, type WebGpuBackend } from '../src/backend.ts';
import { wgsl } from '../src/generated/wgsl.ts';
import type { Launcher } from '../src/gpu/launcher.ts';
import type { WebGpuMemory } from '../src/gpu/memory.ts';
import { Scratch } from '../src/gpu/scratch.ts';
import { tryHalf } from '../src/half.ts';
import { tryMatrices } from '../src/probe.ts';

/** What every line of a record says of the run. `LOWRANK_COMMIT`, `LOWRANK_GPU` and `LOWRANK_DRIVER` come from run.sh. */
export function stamp(device: string, program: string): object {
  const { LOWRANK_COMMIT, LOWRANK_GPU, LOWRANK_DRIVER } = process.env;
  return {
    commit: LOWRANK_COMMIT ?? 'unknown',
    gpu: LOWRANK_GPU || device,
    driver: LOWRANK_DRIVER || 'unknown',
    device,
    command: `${program} ${process.argv.slice(2).join(' ')}`.trim(),
  };
}

/** Where lines go: `kernels` to a record, what is only compared to another. */
export interface Records {
  readonly kernels?: string | undefined;
  readonly variants?: string | undefined;
}

/** What is known of one call. */
export interface Work {
  readonly flops?: number;
  readonly bytes?: number;
  /** TFLOP/s where `flops` is given, else GB/s, that the kernel is to reach; recorded as microseconds. */
  readonly goal?: number | undefined;
  /** The error against f64, measured before the time. */
  readonly check?: () => Promise<number>;
  /** A variant that is tried, which is no record of the kernel in use. */
  readonly variant?: string;
}

/**
 * A device with timers; each measurement is a line on the screen and in a record. LOWRANK_WGSL names a JSON file with other texts of shader
 * files, by path, to try them.
 */
export class Bench {
  readonly backend: WebGpuBackend;
  readonly launcher: Launcher;
  /** For kernels that are called by themselves. */
  readonly scratch: Scratch;
  readonly #records: Records;
  readonly #seed: View;
  readonly #filters: readonly string[];
  readonly #facts: object;
  /** Milliseconds of the first call of each, compiling and all. */
  readonly #first = new Map<string, number>();
  /** Of each: its error against f64, once measured, and the median of the pass before. */
  readonly #errors = new Map<string, number>();
  readonly #before = new Map<string, number>();
  readonly #settled = new Set<string>();
  /**
   * Drivers run a pipeline before it is optimised, and put the better one in its place later, some seconds where many wait. So everything is
   * called once first (`compile`), and then measured in passes until it takes what it took in the pass before (`settle`, from `settlesFrom` on), or in
   * any case (`last`).
   */
  pass: 'compile' | 'settle' | 'last' = 'last';
  /** Of performance.now(). */
  settlesFrom = 0;
  /** Something was measured in this pass that has not settled. */
  open = 0;
  #site = 0;

  static async open(
    options: WebGpuOptions & { readonly matrices: boolean },
    records: Records,
    filters: readonly string[],
  ): Promise<Bench> {
    const { LOWRANK_WGSL: other } = process.env;
    if (other) Object.assign(wgsl, JSON.parse(readFileSync(other, 'utf8')));
    const adapter = await findAdapter(options);
    const device = await openDevice(adapter, options.features);
    const { backend, launcher } = createBackend(device, adapterFacts(adapter.info, device));
    await tryHalf(backend, launcher);
    if (options.matrices) await tryMatrices(backend, launcher, adapter.info);
    return new Bench(backend, launcher, records, filters);
  }

  private constructor(backend: WebGpuBackend, launcher: Launcher, records: Records, filters: readonly string[]) {
    this.backend = backend;
    this.launcher = launcher;
    this.scratch = new Scratch(backend.memory as WebGpuMemory);
    this.#records = records;
    this.#filters = filters;
    this.#seed = this.empty([4], 'u32');
    backend.memory.write(this.#seed.buffer, 0, new Uint8Array(Uint32Array.of(7, 11, 0, 0).buffer));
    this.#facts = stamp(backend.caps.device, 'ops');
    const { info } = { info: backend.device.adapterInfo };
    this.#write(records.variants, {
      kind: 'adapter',
      name: 'adapter',
      subgroups: [info?.subgroupMinSize, info?.subgroupMaxSize],
      limits: backend.adapter.limits,
      features: backend.caps.features,
      variants: backend.variants(),
    });
  }

  /** Whether a name is asked for: it has one of the parts given, or none is given. */
  wants(name: string): boolean {
    return this.#filters.length === 0 || this.#filters.some((f) => name.includes(f));
  }

  #write(path: string | undefined, line: object): void {
    console.log(JSON.stringify(line));
    const stamped = { ...line, ...this.#facts, at: new Date().toISOString() };
    if (path) appendFileSync(path, `${JSON.stringify(stamped)}\n`);
  }

  add(line: { readonly name: string; readonly [figure: string]: unknown }): void {
    const { variant, failed } = line;
    if (variant === undefined && failed === undefined) this.#write(this.#records.kernels, { kind: 'kernel', ...line });
    else this.#write(this.#records.variants, { kind: 'variant', ...line });
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
  async values({ buffer, byteOffset, dtype }: View, from: number, count: number): Promise<Float32Array> {
    const size = bytesOf[dtype];
    const raw = Uint8Array.from(await this.backend.memory.read(buffer, byteOffset + from * size, count * size)).buffer;
    if (dtype === 'f32') return new Float32Array(raw);
    const codes = new Uint16Array(raw);
    if (dtype === 'f16') return Float32Array.from(codes, (c) => f16s[c]!);
    return Float32Array.from(new Float32Array(Uint32Array.from(codes, (c) => c << 16).buffer));
  }

  /**
   * Times `run` by timestamps where the device has them, else by the clock: the median of nine, fastest and slowest, of some calls each.
   * `flops` and `bytes` of one call become rates. What fails is a line, too.
   */
  async time(name: string, run: () => void, work: Work): Promise<void> {
    if (!this.wants(name)) return;
    const { backend } = this;
    const variant = work.variant === undefined ? {} : { variant: work.variant };
    const key = `${name} ${work.variant ?? ''}`;
    if (this.pass === 'compile') {
      const began = performance.now();
      // what fails here fails again, and is told then
      await Promise.resolve()
        .then(run)
        .then(backend.synchronize, () => {});
      this.#first.set(key, round(performance.now() - began));
      return;
    }
    if (this.#settled.has(key)) return;
    try {
      run();
      await backend.synchronize();
      if (work.check && !this.#errors.has(key)) this.#errors.set(key, await work.check());
      const clock = async (n: number) => {
        const t = performance.now();
        for (let i = 0; i < n; i++) run();
        await backend.synchronize();
        return (performance.now() - t) / n;
      };
      const once = await clock(2);
      const calls = Math.max(1, Math.min(50, Math.ceil(15 / once)));
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
      const before = this.#before.get(key);
      this.#before.set(key, median);
      const steady = before !== undefined && Math.abs(median / before - 1) < 0.04;
      if (this.pass === 'settle' && !(steady && performance.now() > this.settlesFrom)) {
        this.open++;
        return;
      }
      this.#settled.add(key);
      const error = this.#errors.get(key);
      this.add({
        name,
        ...variant,
        microseconds: round(median),
        fastest: round(fastest),
        p20: round(samples[2]!),
        p80: round(samples[6]!),
        slowest: round(slowest),
        calls,
        timer: stamps ? 'timestamps' : 'clock',
        firstMilliseconds: this.#first.get(key),
        ...(before !== undefined && { passBefore: round(before) }),
        ...(work.flops && { teraflops: round(work.flops / median / 1e6) }),
        ...(work.bytes && { gigabytesPerSecond: round(work.bytes / median / 1e3) }),
        ...(work.goal && { goal: round(work.flops ? work.flops / work.goal / 1e6 : work.bytes! / work.goal / 1e3) }),
        ...(error !== undefined && { error: round(error) }),
      });
    } catch (error) {
      this.#settled.add(key);
      this.add({ name, ...variant, failed: String(error).slice(0, 600) });
    }
  }

  /** Keeps the device busy so long, so that its clocks are up before the first measurement. */
  async warm(milliseconds: number): Promise<void> {
    const x = this.random([2048, 2048], 'f32');
    const y = this.empty([2048, 2048], 'f32');
    const end = performance.now() + milliseconds;
    while (performance.now() < end) {
      this.backend.primitives.matmul({ inputs: { a: x, b: x }, outputs: { y }, attrs: {} });
      await this.backend.synchronize();
    }
    this.free(x, y);
  }
}

const f16s = Float32Array.from({ length: 65536 }, (_, code) => f16Value(code));

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
