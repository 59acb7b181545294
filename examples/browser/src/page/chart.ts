import uPlot from 'uplot';

/** Ticks of the steps are whole numbers. */
const wholeSteps = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000];

/** Loss over the steps, with a running mean and what was measured on held-out samples. Colours follow the page's. */
export class LossChart {
  readonly #place: HTMLElement;
  readonly #losses = new Map<number, number>();
  readonly #held = new Map<number, number>();
  #plot: uPlot | undefined;
  #scheduled = false;

  constructor(place: HTMLElement) {
    this.#place = place;
    new ResizeObserver(() => this.#plot?.setSize(this.#size())).observe(place);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
      this.#plot?.destroy();
      this.#plot = undefined;
      this.#draw();
    });
  }

  /** Shows a whole run. */
  set(losses: Iterable<{ step: number; loss: number }>, held: Iterable<{ step: number; loss: number }>): void {
    this.#losses.clear();
    this.#held.clear();
    for (const { step, loss } of losses) this.#losses.set(step, loss);
    for (const { step, loss } of held) this.#held.set(step, loss);
    this.#draw();
  }

  add(step: number, loss: number): void {
    this.#losses.set(step, loss);
    this.#draw();
  }

  addHeld(step: number, loss: number): void {
    this.#held.set(step, loss);
    this.#draw();
  }

  /** Draws once a frame at most. */
  #draw(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    requestAnimationFrame(() => {
      this.#scheduled = false;
      const data = this.#data();
      if (this.#plot) this.#plot.setData(data);
      else if (this.#place.clientWidth) this.#plot = new uPlot(this.#options(), data, this.#place);
      const last = [...this.#losses].at(-1);
      const words = last ? `: ${this.#losses.size} steps, now ${last[1].toFixed(3)}` : '';
      this.#place.setAttribute('aria-label', `Loss by step${words}`);
    });
  }

  #data(): uPlot.AlignedData {
    const steps = [...new Set([...this.#losses.keys(), ...this.#held.keys()])].sort((a, b) => a - b);
    const loss = steps.map((s) => this.#losses.get(s) ?? null);
    const window = Math.max(1, Math.round(steps.length / 25));
    const mean = loss.map((_, i) => {
      const part = loss.slice(Math.max(0, i - window + 1), i + 1).filter((x) => x !== null);
      return part.length ? part.reduce((a, b) => a + b, 0) / part.length : null;
    });
    return [steps, loss, mean, steps.map((s) => this.#held.get(s) ?? null)];
  }

  #size(): { width: number; height: number } {
    return { width: Math.max(200, this.#place.clientWidth), height: this.#place.clientWidth < 500 ? 200 : 240 };
  }

  #options(): uPlot.Options {
    const style = getComputedStyle(document.documentElement);
    const colour = (name: string) => style.getPropertyValue(name).trim();
    const [line, soft, mark] = [colour('--line'), colour('--soft'), colour('--mark')];
    const axis = { stroke: soft, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
    return {
      ...this.#size(),
      legend: { live: false, markers: { fill: (_, i) => ['', `${mark}73`, mark, '#d06a2c'][i]! } },
      scales: {
        x: { time: false },
        y: { range: (_, min, max) => [Math.max(0, min - 0.1 * (max - min)), max + 0.1 * (max - min) + 1e-3] },
      },
      axes: [
        { ...axis, incrs: wholeSteps, space: 60 },
        { ...axis, size: 48 },
      ],
      series: [
        { label: 'step' },
        { label: 'loss', stroke: mark, width: 1, alpha: 0.45, points: { show: false } },
        { label: 'mean', stroke: mark, width: 2, points: { show: false } },
        {
          label: 'held out',
          stroke: '#d06a2c',
          width: 2,
          spanGaps: true,
          points: { show: true, size: 7, fill: '#d06a2c' },
        },
      ],
    };
  }
}
