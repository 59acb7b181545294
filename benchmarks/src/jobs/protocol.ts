import { z } from 'zod';

/** A whole training step at a model's shapes, as every runner gets it. */
export const stepCase = z.strictObject({
  shape: z.string(),
  layers: z.int().positive().optional(),
  method: z.enum(['lora', 'qlora', 'full']),
  batch: z.int().positive(),
  length: z.int().positive(),
  rank: z.int().positive(),
  recompute: z.enum(['none', 'selective', 'block']),
  /** What is kept for the backward pass waits in host memory. */
  offload: z.boolean().optional(),
  record: z.enum(['auto', 'off']),
  /** Each call is waited for, so that its time by the clock is its own: for the share of each op, not for speed. */
  callByCall: z.boolean().optional(),
  dtype: z.enum(['f32', 'f16', 'bf16']),
  seed: z.int(),
  threads: z.int().positive().optional(),
});
export type StepCase = z.infer<typeof stepCase>;

/**
 * Runners are processes: what they hold is theirs alone. They get a job as their last argument, and say one JSON line a message on standard
 * output. A step runner says `ready` after its warm-up, then a `step` for each line it reads, and `done` when its input ends.
 */
export const message = z.discriminatedUnion('event', [
  z.strictObject({
    event: z.literal('ready'),
    device: z.string(),
    driver: z.string().nullable(),
    features: z.array(z.string()),
    packages: z.record(z.string(), z.string()),
  }),
  z.strictObject({
    event: z.literal('step'),
    milliseconds: z.number().nonnegative(),
    cpuMilliseconds: z.number().nonnegative(),
  }),
  z.strictObject({
    event: z.literal('result'),
    name: z.string(),
    samples: z.array(z.number()),
    work: z.record(z.string(), z.number()),
    figures: z.record(z.string(), z.number()),
    notes: z.array(z.string()),
    /** Processor time of the whole process so far. */
    cpuMilliseconds: z.number().nonnegative(),
  }),
  z.strictObject({ event: z.literal('done'), figures: z.record(z.string(), z.number()), notes: z.array(z.string()) }),
  z.strictObject({ event: z.literal('failed'), reason: z.string() }),
]);
export type Message = z.infer<typeof message>;
