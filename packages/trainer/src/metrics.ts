import type { EvaluationRecord, StepRecord } from './callbacks.ts';

/** One line of a run's metrics. */
export type Metric =
  | ({ readonly event: 'step' } & Omit<StepRecord, 'memory' | 'totalSteps'> & {
        readonly memoryBytes: number;
        readonly peakMemoryBytes: number;
      })
  | ({ readonly event: 'evaluation' } & EvaluationRecord);

/** Where metrics go. */
export interface MetricsSink {
  write(metric: Metric): void | Promise<void>;
  /** The run goes on from a step: later metrics are of a run that was cut off, and are to be dropped. */
  resume?(step: number): void | Promise<void>;
  close?(): void | Promise<void>;
}

export function stepMetric({ memory, totalSteps: _, ...record }: StepRecord): Metric {
  return { event: 'step', ...record, memoryBytes: memory.live, peakMemoryBytes: memory.peak };
}

/** Keeps metrics in an array. */
export class MetricsList implements MetricsSink {
  metrics: Metric[] = [];

  write(metric: Metric): void {
    this.metrics.push(metric);
  }

  resume(step: number): void {
    this.metrics = this.metrics.filter((m) => m.step <= step);
  }
}
