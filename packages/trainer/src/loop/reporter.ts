import type { Tensor } from '@lowrank/tensor';
import { notFinite } from '../anomaly.ts';
import type { StepInfo, StepRecord } from '../callbacks.ts';
import { stepMetric } from '../metrics.ts';
import type { Resolved } from '../options.ts';
import type { TrainerState } from '../state.ts';
import { LossLog } from './loss-log.ts';

/** Reads the results of steps while later ones run, and hands them on in order. At most one read is under way. */
export class Reporter implements Disposable {
  readonly #o: Pick<Resolved, 'device' | 'metrics' | 'anomalies' | 'onLog'>;
  readonly #state: TrainerState;
  readonly #log: LossLog<StepInfo>;
  #reading: Promise<void> = Promise.resolve();
  #start = performance.now();
  #last = performance.now();

  /** Adds to the history of `state`. */
  constructor(options: Pick<Resolved, 'device' | 'metrics' | 'anomalies' | 'onLog'>, state: TrainerState) {
    this.#o = options;
    this.#state = state;
    this.#log = new LossLog(options.device);
  }

  /** The clock of seconds and tokens per second starts; anomalies from before do not count. */
  async begin(): Promise<void> {
    await this.#o.anomalies?.first();
    this.#start = this.#last = performance.now();
  }

  get seconds(): number {
    return (performance.now() - this.#start) / 1000;
  }

  /** True when results must be read before another step. */
  get full(): boolean {
    return this.#log.full;
  }

  push(result: Tensor, info: StepInfo): void {
    this.#log.push(result, info);
  }

  /** Waits for the results asked for before, and asks for the rest; those come while steps go on. Throws what was found wrong. */
  async read(): Promise<void> {
    await this.#reading;
    if (this.#log.size === 0) return;
    this.#reading = this.#handOn(this.#log.read());
    // an error waits for the next read; it is not unhandled
    this.#reading.catch(() => {});
    if (!this.#o.device.backend.caps.asynchronous) await this.#reading;
  }

  /** Waits for all results. */
  async settle(): Promise<void> {
    await this.read();
    await this.#reading;
  }

  async #handOn(read: ReturnType<LossLog<StepInfo>['read']>): Promise<void> {
    const { device, metrics, anomalies, onLog } = this.#o;
    const steps = await read;
    const anomaly = await anomalies?.first();
    const now = performance.now();
    const tokens = steps.reduce((sum, { known }) => sum + known.inputTokens, 0);
    const tokensPerSecond = (tokens / Math.max(now - this.#last, 1e-3)) * 1000;
    this.#last = now;
    const memory = device.memory();
    for (const { known, loss, gradNorm } of steps) {
      for (const [what, value] of [
        ['loss', loss],
        ['gradient norm', gradNorm],
      ] as const)
        if (!Number.isFinite(value)) throw notFinite(what, value, known.step, anomaly, anomalies !== undefined);
      const record: StepRecord = {
        ...known,
        loss,
        gradNorm,
        tokensPerSecond,
        seconds: (now - this.#start) / 1000,
        memory,
      };
      this.#state.history.push({ step: known.step, loss, gradNorm, learningRate: known.learningRate });
      await metrics?.write(stepMetric(record));
      await onLog?.(record);
    }
  }

  [Symbol.dispose](): void {
    this.#log[Symbol.dispose]();
  }
}
