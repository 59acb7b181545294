import { appendFileSync } from 'node:fs';
import { type Backend, bytesOf, contiguousStrides, type DType, sizeOf, type View } from '@lowrank/kernels';
import { backendOn } from '../src/backend.ts';
import { CudaDevice } from '../src/runtime/device.ts';
import type { CudaBuffer } from '../src/runtime/memory.ts';

/** What one measurement says; a line of the record. */
export interface Figure {
  readonly name: string;
  /** Median over repetitions of the mean time of one call, microseconds. */
  readonly microseconds: number;
  readonly fastest: number;
  readonly gigabytesPerSecond?: number;
  readonly teraflops?: number;
  /** Microseconds that were asked for; met or not. */
  readonly goal?: number;
  readonly met?: boolean;
  /** Largest relative difference from an f64 reference, over what was compared. */
  readonly error?: number;
  readonly right?: boolean;
}

/** A GPU with timers: calls are recorded into a graph that goes round several sets of operands, more than the cache holds, and its launches are timed with events. */
export class Bench {
  readonly device: CudaDevice;
  readonly backend: Backend;
  readonly figures: Figure[] = [];
  readonly #start: number;
  readonly #end: number;
  readonly #record: string | undefined;
  readonly #seed: View;
  #site = 0;

  constructor(record?: string) {
    this.device = CudaDevice.open({});
    this.backend = backendOn(this.device);
    this.#start = this.device.native.eventCreate(this.device.handle, true);
    this.#end = this.device.native.eventCreate(this.device.handle, true);
    this.#record = record;
    this.#seed = this.empty([4], 'u32');
    this.write(this.#seed, Uint32Array.of(7, 11, 0, 0));
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

  /** Numbers of mean 0 and the given deviation. */
  normal(shape: readonly number[], dtype: DType, deviation = 1): View {
    const y = this.empty(shape, dtype);
    this.backend.primitives.random({
      inputs: { seed: this.#seed },
      outputs: { y },
      attrs: { shape, dtype, distribution: 'normal', site: this.#site++ },
    });
    if (deviation !== 1)
      this.backend.primitives.unary({ inputs: { x: y }, outputs: { y }, attrs: { op: 'affine', p: deviation, q: 0 } });
    return y;
  }

  bits(shape: readonly number[]): View {
    const bytes = this.empty([Math.ceil(sizeOf(shape) / 4)], 'u32');
    this.backend.primitives.random({
      inputs: { seed: this.#seed },
      outputs: { y: bytes },
      attrs: { shape: bytes.shape, dtype: 'u32', distribution: 'bits', site: this.#site++ },
    });
    return { ...bytes, dtype: 'u8', shape, strides: contiguousStrides(shape) };
  }

  write(view: View, data: ArrayBufferView): void {
    this.backend.memory.write(
      view.buffer,
      view.byteOffset,
      new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
    );
  }

  of(dtype: DType, data: Float32Array | Int32Array | Uint32Array | Uint8Array): View {
    const view = this.empty([data.length], dtype);
    this.write(view, data);
    return view;
  }

  read(view: View): Promise<Uint8Array> {
    return this.backend.memory.read(view.buffer, view.byteOffset, sizeOf(view.shape) * bytesOf[view.dtype]);
  }

  /** f32 or half values as f64. */
  async values(view: View): Promise<Float64Array> {
    const raw = await this.read(view);
    if (view.dtype === 'f32')
      return Float64Array.from(new Float32Array(raw.buffer, raw.byteOffset, raw.byteLength / 4));
    const words = new Uint16Array(raw.buffer, raw.byteOffset, raw.byteLength / 2);
    if (view.dtype === 'f16') return Float64Array.from(new Float16Array(words.buffer, words.byteOffset, words.length));
    const wide = new Uint32Array(words.length);
    for (let i = 0; i < words.length; i++) wide[i] = words[i]! << 16;
    return Float64Array.from(new Float32Array(wide.buffer));
  }

  free(...views: (View | undefined)[]): void {
    this.device.flush();
    for (const buffer of new Set(views.filter((v) => v !== undefined).map((v) => v!.buffer)))
      this.backend.memory.release(buffer as CudaBuffer);
  }

  /** Times `calls`, which do the same work on different operands. */
  async time(
    name: string,
    calls: readonly (() => void)[],
    facts: { bytes?: number; flops?: number; goal?: number; error?: number; tolerance?: number } = {},
  ): Promise<Figure> {
    for (const call of calls) call();
    await this.backend.synchronize();
    const rounds = Math.max(1, Math.ceil(8 / calls.length));
    const recorder = this.backend.record!;
    recorder.begin();
    for (let r = 0; r < rounds; r++) for (const call of calls) call();
    const graph = recorder.end();
    const count = rounds * calls.length;
    const samples: number[] = [];
    graph.replay();
    for (let i = 0; i < 12; i++) {
      this.device.commands.record(this.#start);
      this.device.flush();
      graph.replay();
      this.device.commands.record(this.#end);
      await this.backend.synchronize();
      samples.push((this.device.native.eventElapsed(this.#start, this.#end)! * 1000) / count);
    }
    graph.release();
    samples.sort((a, b) => a - b);
    const us = samples[samples.length >> 1]!;
    return this.add({
      name,
      microseconds: round(us),
      fastest: round(samples[0]!),
      ...(facts.bytes === undefined ? {} : { gigabytesPerSecond: round(facts.bytes / us / 1e3) }),
      ...(facts.flops === undefined ? {} : { teraflops: round(facts.flops / us / 1e6) }),
      ...(facts.goal === undefined ? {} : { goal: facts.goal, met: us <= facts.goal }),
      ...(facts.error === undefined ? {} : { error: facts.error, right: facts.error <= (facts.tolerance ?? 1e-2) }),
    });
  }

  add(figure: Figure): Figure {
    this.figures.push(figure);
    if (this.#record)
      appendFileSync(this.#record, `${JSON.stringify({ kind: 'kernel', device: this.device.info.name, ...figure })}\n`);
    const { name, microseconds, gigabytesPerSecond, teraflops, goal, met, error, right } = figure;
    const parts = [name.padEnd(52), `${microseconds} µs`.padStart(12)];
    if (gigabytesPerSecond !== undefined) parts.push(`${gigabytesPerSecond} GB/s`);
    if (teraflops !== undefined) parts.push(`${teraflops} TFLOP/s`);
    if (goal !== undefined) parts.push(`goal ${goal}: ${met ? 'met' : 'NOT met'}`);
    if (error !== undefined) parts.push(`error ${error.toExponential(1)}${right ? '' : ' WRONG'}`);
    console.log(parts.join('  '));
    return figure;
  }
}

function round(v: number): number {
  return Number(v.toPrecision(4));
}

/** ‖actual − expected‖ / ‖expected‖; NaN counts as infinite. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < expected.length; i++) {
    difference += (actual[i]! - expected[i]!) ** 2;
    norm += expected[i]! ** 2;
  }
  const error = Math.sqrt(difference / (norm || 1));
  return Number.isNaN(error) ? Infinity : error;
}
