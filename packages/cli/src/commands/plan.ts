import { loadTokenizer } from '@lowrank/models';
import { type MemoryClass, memoryClasses } from '@lowrank/tensor';
import type { Settings } from '../options/schema.ts';
import type { Console } from '../report/console.ts';
import { bytes, count, percent, table } from '../report/format.ts';
import { openBackend } from '../run/backend.ts';
import { loadDatasets } from '../run/data.ts';
import { storedDtypes } from '../run/files.ts';
import { type Forecast, forecast } from '../run/forecast.ts';
import { findSubject, type Method } from '../run/session.ts';

const methods: readonly Method[] = ['full', 'lora', 'qlora'];

/** `lowrank plan`: memory and trainable share of a run, from the same code on a backend that computes nothing. */
export async function plan(given: Settings, ui: Console): Promise<number> {
  const { files, config, settings } = await findSubject(given, ui);
  const backend = await openBackend(settings.backend, { threads: settings.threads ?? 1 });
  try {
    const stored = await storedDtypes(files, config.json);
    const length = Math.min(settings.maxLength ?? 512, config.config.maxPositions);
    const sets = settings.data
      ? await loadDatasets(await loadTokenizer(files), config.config, settings, ui)
      : undefined;
    const limit = settings.memory ?? backend.caps.limits.memoryBytes;
    // a checkpoint in 4 bits leaves one choice
    const asked = config.quantization ? (['qlora'] as const) : methods;
    const plans: Forecast[] = [];
    for (const method of asked) {
      ui.status(`planning ${method}`);
      plans.push(await forecast({ backend, config: config.config, settings, stored, length, ...sets }, method));
    }
    ui.clear();
    const fits = (p: Forecast) => limit === undefined || p.reservedBytes <= limit;
    ui.emit({
      model: files.name,
      backend: backend.name,
      batchSize: settings.batchSize ?? 8,
      length: sets ? sets.data.longest : length,
      limitBytes: limit,
      plans: plans.map((p) => ({ ...p, share: p.trainable / p.total, fits: fits(p) })),
    });
    if (!ui.json)
      show(ui, {
        name: files.name,
        backend: backend.name,
        batch: settings.batchSize ?? 8,
        length: sets ? sets.data.longest : length,
        settings,
        plans,
        limit,
      });
    return 0;
  } finally {
    await backend.close();
  }
}

interface Shown {
  readonly name: string;
  readonly backend: string;
  readonly batch: number;
  readonly length: number;
  readonly settings: Settings;
  readonly plans: readonly Forecast[];
  readonly limit: number | undefined;
}

function show(ui: Console, { name, backend, batch, length, settings, plans, limit }: Shown): void {
  const steps =
    (settings.gradientAccumulationSteps ?? 1) > 1 ? ` × ${settings.gradientAccumulationSteps} batches a step` : '';
  ui.say(
    `${ui.bold(name)}: ${count(plans[0]!.total)} numbers, batches of ${batch} × ${length} tokens${steps}, recompute ${settings.recompute ?? 'none'}, on ${backend}\n`,
  );
  const row = (title: string, cell: (p: Forecast) => string) => [title, ...plans.map(cell)];
  const parts = memoryClasses.filter((c: MemoryClass) => plans.some((p) => p.peakByClass[c] > 0));
  ui.say(
    table([
      row('', (p) => p.method),
      row('trainable', (p) => `${count(p.trainable)} (${percent(p.trainable / p.total, 2)})`),
      ...parts.map((c) => row(c, (p) => bytes(p.peakByClass[c]))),
      row('peak', (p) => bytes(p.peakBytes)),
      row('taken from the device', (p) => bytes(p.reservedBytes)),
      ...(limit === undefined ? [] : [row(`fits ${bytes(limit)}`, (p) => (p.reservedBytes <= limit ? 'yes' : 'no'))]),
    ]),
  );
  if (limit !== undefined && plans.every((p) => p.reservedBytes > limit)) {
    const least = Math.min(...plans.map((p) => p.peakBytes - p.peakByClass.activations));
    ui.say(
      least > limit
        ? `\nNone fits, activations aside: ${bytes(least)} at least. Take a smaller model or a larger device.`
        : '\nNone fits: lower --batch-size or --max-length, or use --recompute block.',
    );
  }
}
