import type { StepRecord } from '@lowrank/trainer';
import type { Console } from './console.ts';
import { bytes, duration, rate } from './format.ts';

/** The bar of a training run in a terminal; elsewhere a line now and then. */
export class TrainingProgress {
  readonly #ui: Console;
  #every = 1;
  #first: { step: number; seconds: number } | undefined;

  constructor(ui: Console) {
    this.#ui = ui;
  }

  step(record: StepRecord): void {
    const { step, totalSteps, loss, tokensPerSecond, memory, seconds } = record;
    this.#first ??= { step: step - 1, seconds: 0 };
    const done = step - this.#first.step;
    const left = ((seconds - this.#first.seconds) / done) * (totalSteps - step);
    const facts = `step ${step}/${totalSteps}  loss ${loss.toFixed(4)}  ${rate(tokensPerSecond)}  ${bytes(memory.peak)}  ${duration(left)} left`;
    if (this.#ui.live) {
      const room = Math.min(30, this.#ui.columns - facts.length - 8);
      this.#ui.status(room >= 8 ? `${bar(step / totalSteps, room)} ${facts}` : facts);
    } else if (!this.#ui.json) {
      this.#every = Math.max(1, Math.floor(totalSteps / 20));
      if (step === 1 || step === totalSteps || step % this.#every === 0) this.#ui.say(facts);
    }
  }
}

/** `█████▌░░░░` */
export function bar(share: number, width: number): string {
  const parts = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
  const eighths = Math.round(Math.min(1, Math.max(0, share)) * width * 8);
  const whole = Math.floor(eighths / 8);
  const text = '█'.repeat(whole) + (whole < width ? parts[eighths % 8] : '');
  return text.padEnd(width, '░');
}
