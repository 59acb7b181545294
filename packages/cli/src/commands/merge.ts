import { mergeAdapter } from '@lowrank/merge';
import type { Settings } from '../options/schema.ts';
import type { Console } from '../report/console.ts';
import { bytes, ownCommand, percent, table } from '../report/format.ts';
import { checkOutputFolder } from '../run/output.ts';
import { inputsOf, openSession } from '../run/session.ts';
import { saveSession } from './quantize.ts';

/** `lowrank merge`: adapters become part of the weights. */
export async function merge(settings: Settings, ui: Console): Promise<number> {
  const nf4 = settings.format === 'nf4';
  await using session = await openSession(settings, ui, {
    quantized: nf4,
    check: (subject) => checkOutputFolder(settings.output!, { ...settings, inputs: inputsOf(subject) }),
  });
  const { lora, subject } = session;
  ui.status('merging');
  const report = await mergeAdapter(lora!, { safe: true, ...(nf4 ? {} : { dense: 'f32' }) });
  ui.clear();
  const mean = report.weights.reduce((sum, w) => sum + w.relativeError, 0) / report.weights.length;
  const lost = report.weights.reduce((sum, w) => sum + w.errorOverUpdate, 0) / report.weights.length;
  const size = await saveSession(session, settings, ui, { quantized: nf4 });
  report.dispose();
  ui.emit({
    output: settings.output,
    format: nf4 ? 'nf4' : 'dense',
    bytes: size,
    weights: report.weights,
    meanRelativeError: mean,
    meanErrorOverUpdate: lost,
  });
  if (!ui.json) {
    const base =
      subject.method === 'qlora' && !nf4 ? ' into the dequantized 4-bit base that the adapter was trained on' : '';
    ui.say(`Merged ${report.weights.length} weights${base}; saved ${settings.output}: ${bytes(size)}.`);
    if (nf4) {
      ui.say(
        `Quantizing the sums again cost ${percent(mean, 2)} of the weights' norm on average: ${percent(lost, 0)} of what was learnt. Lost most, as a share of the update:`,
      );
      const worst = [...report.weights].sort((a, b) => b.errorOverUpdate - a.errorOverUpdate).slice(0, 5);
      ui.say(
        table([
          ['weight', 'of the weight', 'of the update'],
          ...worst.map((w) => [w.path, percent(w.relativeError, 2), percent(w.errorOverUpdate, 0)]),
        ]),
      );
      if (lost > 1) ui.say('More was lost than was learnt: keep the adapter beside the 4-bit base, or merge dense.');
    }
    ui.say(`Try it:\n  ${ownCommand('generate', '--model', settings.output!, 'your prompt')}`);
  }
  return 0;
}
