import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { loadTokenizer } from '@lowrank/models';
import { Device, LowrankError } from '@lowrank/tensor';
import { detectAnomalies } from '@lowrank/trainer';
import { factsOf, optionNames, type Settings } from '../options/schema.ts';
import type { Console } from '../report/console.ts';
import { bytes, count, ownCommand, percent } from '../report/format.ts';
import { summarize } from '../report/summary.ts';
import { questionsOf } from '../run/answers.ts';
import { openBackend } from '../run/backend.ts';
import { loadDatasets } from '../run/data.ts';
import { storedDtypes } from '../run/files.ts';
import { type FineTuned, fineTune, type Run } from '../run/fine-tune.ts';
import { checkFits, forecast } from '../run/forecast.ts';
import { onInterrupt } from '../run/interrupt.ts';
import { checkRunFolder, prepareRunFolder } from '../run/output.ts';
import { checkQuantization, findSubject, inputsOf, loadWeights, type Subject } from '../run/session.ts';
import { makeTrainee } from '../run/training.ts';

/** `lowrank train`. Gives the exit code. */
export async function train(settings: Settings, ui: Console): Promise<number> {
  const output = settings.output!;
  return withRun(settings, ui, async (run) => {
    const done = await fineTune(run);
    const { result } = done;
    if (result.stopped === 'aborted') {
      ui.say(
        `\nStopped at step ${result.step}; ${result.checkpoint} holds everything. To go on:\n  ${ownCommand('train', '--config', `${output}/lowrank.json`, '--resume')}`,
      );
      ui.emit({ event: 'end', ...resultOf(done), output });
      return 130;
    }
    const report = await summarize(run, done);
    ui.emit({ event: 'end', ...resultOf(done), output, report });
    const adapter = run.trainee.lora !== undefined;
    ui.say(
      `\nSaved ${output} (${adapter ? 'a PEFT adapter' : 'a whole model'}) and ${report}. Try it:\n  ${tryIt(run, adapter)}`,
    );
    return 0;
  });
}

function resultOf({ result: { memory, ...rest }, samples }: FineTuned) {
  return {
    ...rest,
    memoryBytes: memory.live,
    peakMemoryBytes: memory.peak,
    samples: samples.map(({ prompt, expected, before, after }) => ({ prompt, expected, before, after })),
  };
}

function tryIt({ settings, questions }: Run, adapter: boolean): string {
  const { prompt } = questions[0] ?? { prompt: 'Once upon a time' };
  // the line break at the end of a prompt is part of it, and typed as \n
  const fits = prompt.length <= 60 && !prompt.trimEnd().includes('\n');
  const short = fits ? prompt.replaceAll('\\', '\\\\').replaceAll('\n', '\\n') : 'your prompt';
  return ownCommand('generate', adapter ? '--adapter' : '--model', settings.output!, short);
}

/** Everything that a run needs, opened in the order in which mistakes are cheap to find. */
export async function withRun<T>(given: Settings, ui: Console, use: (run: Run) => Promise<T>): Promise<T> {
  const subject = await findSubject(given, ui);
  const { settings, method } = subject;
  checkMethod(subject, given);
  if (settings.resume !== undefined && settings.resume !== 'auto' && !existsSync(settings.resume))
    throw new LowrankError(
      'resume',
      'no checkpoint there',
      settings.resume,
      'Name a folder checkpoint-<step>, or give --resume alone for the latest of --output',
    );
  const resume = settings.resume !== undefined;
  await checkRunFolder(settings.output!, { ...settings, resume, inputs: inputsOf(subject) });
  using interrupt = onInterrupt((name) =>
    ui.note(`${name}: finishing the step and saving a checkpoint; again to leave at once`),
  );
  const tokenizer = await loadTokenizer(subject.files);
  const { data, evalData } = await loadDatasets(tokenizer, subject.config.config, settings, ui);
  await using stack = new AsyncDisposableStack();
  const backend = await openBackend(settings.backend, settings);
  const anomalies = settings.detectAnomaly ? detectAnomalies(backend) : undefined;
  const device = stack.use(anomalies ? new Device(anomalies.backend, { fused: 'off' }) : new Device(backend));
  ui.note(`${backend.name}: ${backend.caps.device}`);
  const stored = await storedDtypes(subject.files, subject.config.json);
  const plan = await forecast({ backend, config: subject.config.config, settings, stored, data, evalData }, method);
  checkFits(plan, backend);
  const model = stack.use(await loadWeights(device, subject, ui, interrupt.signal));
  const trainee = stack.use(await makeTrainee(device, model, method, settings, subject.files.name));
  ui.note(
    `training ${count(trainee.trainable)} of ${count(trainee.total)} numbers (${percent(trainee.trainable / trainee.total, 2)}), about ${bytes(plan.peakBytes)} of device memory at most`,
  );
  await prepareRunFolder(settings.output!, { resume });
  const questions = questionsOf(evalData ?? data, tokenizer, settings.samples ?? 1);
  return await use({
    subject,
    settings,
    device,
    model,
    tokenizer,
    trainee,
    data,
    evalData,
    anomalies,
    questions,
    record: kept(settings, subject),
    signal: interrupt.signal,
    ui,
  });
}

function checkMethod(subject: Subject, given: Settings): void {
  const { config, method, spec } = subject;
  checkQuantization(subject, given);
  if (method === 'full' && given.adapter)
    throw new LowrankError(
      'train',
      'an adapter does not go with --method full',
      given.adapter.join(', '),
      'Merge it into its base first (lowrank merge), or go on with the adapter: --method lora',
    );
  if (method === 'full' && config.quantization)
    throw new LowrankError(
      'train',
      'quantized weights cannot be trained themselves',
      spec,
      'Train an adapter on them: --method lora',
    );
}

/** What lowrank.json keeps: the settings by their names, with paths that hold from anywhere. */
function kept(settings: Settings, { spec, method }: Subject): Record<string, unknown> {
  const path = (p: string) => (p !== 'bundled' && existsSync(p) ? resolve(p) : p);
  const leave = new Set<string>(['json', 'config', 'resume', 'overwrite']);
  const out: Record<string, unknown> = { model: path(spec), method };
  for (const name of optionNames) {
    const value = settings[name];
    if (value === undefined || leave.has(name) || name in out) continue;
    // a template is read with its escapes
    out[name] = factsOf(name).kind === 'template' ? String(value).replaceAll('\\', '\\\\') : value;
  }
  for (const name of ['data', 'evalData', 'output', 'backend'] as const)
    if (typeof out[name] === 'string') out[name] = path(out[name] as string);
  if (settings.adapter) out.adapter = settings.adapter.map(path);
  return out;
}
