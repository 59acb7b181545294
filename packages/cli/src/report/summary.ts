import { join } from 'node:path';
import type { Backend } from '@lowrank/tensor';
import { flagOf, optionNames, type Settings } from '../options/schema.ts';
import type { FineTuned, Run } from '../run/fine-tune.ts';
import { writeWhole } from '../run/output.ts';
import { chart, type Point, smooth } from './chart.ts';
import type { Console } from './console.ts';
import { bytes, count, duration, percent, rate } from './format.ts';
import { htmlReport } from './html.ts';

/** Ends a run for people: outcome, curve, samples; and the report as a file. Gives the report's path. */
export async function summarize(run: Run, done: FineTuned): Promise<string> {
  const { ui, settings, trainee } = run;
  const { result, metrics, samples } = done;
  const evaluations = metrics.filter((m) => m.event === 'evaluation');
  const lastLoss = evaluations.at(-1)?.loss;
  const facts: [string, string][] = [
    ['loss of the last step', result.loss.toFixed(4)],
    ...(lastLoss === undefined ? [] : [['evaluation loss', lastLoss.toFixed(4)] as [string, string]]),
    ['steps', String(result.step)],
    ['trainable', `${count(trainee.trainable)} (${percent(trainee.trainable / trainee.total, 2)})`],
    ['throughput', rate(result.tokensPerSecond)],
    ['time', duration(result.seconds)],
    ['peak device memory', bytes(result.memory.peak)],
  ];
  if (!ui.json) {
    ui.say();
    ui.say(curve(metrics.filter((m) => m.event === 'step').map((m) => ({ x: m.step, y: m.loss }))));
    ui.say(`\n${facts.map(([name, value]) => `${name} ${ui.bold(value)}`).join(', ')}`);
    showSamples(ui, samples);
  }
  const path = join(settings.output!, 'report.html');
  await writeWhole(
    path,
    await htmlReport({
      title: `Fine-tuning ${run.subject.files.name}`,
      facts,
      settings: settingRows(run, run.device.backend),
      metrics,
      samples,
    }),
  );
  return path;
}

function curve(points: readonly Point[]): string {
  return chart(smooth(points, Math.max(1, Math.round(points.length / 50))), { label: 'loss' });
}

function showSamples(ui: Console, samples: FineTuned['samples']): void {
  const line = (name: string, text: string) =>
    ui.say(`  ${ui.dim(name.padEnd(9))}${text.trim().replaceAll('\n', `\n${' '.repeat(11)}`)}`);
  for (const { prompt, expected, before, after } of samples) {
    ui.say();
    line('asked', prompt);
    line('before', before);
    line('after', after);
    line('expected', expected);
  }
}

/** Settings as they were given, and what they meant on this machine. */
function settingRows({ settings, subject, data, evalData, trainee }: Run, backend: Backend): [string, string][] {
  const shown = (value: Settings[keyof Settings]) =>
    typeof value === 'object' ? JSON.stringify(value) : String(value);
  return [
    ['model', subject.files.name],
    ['method', subject.method],
    ['backend', `${backend.name}: ${backend.caps.device}`],
    ['samples', `${data.length} (${data.tokens} tokens)${evalData ? `, ${evalData.length} held out` : ''}`],
    ['trainable', `${trainee.trainable} of ${trainee.total}`],
    ...optionNames
      .filter((name) => settings[name] !== undefined && !['model', 'method', 'json', 'config'].includes(name))
      .map((name): [string, string] => [flagOf(name).slice(2), shown(settings[name])]),
  ];
}
