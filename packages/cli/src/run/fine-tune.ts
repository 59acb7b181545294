import { readFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { folderSinks } from '@lowrank/formats/node';
import { saveAdapter } from '@lowrank/lora';
import { saveAdapterFolder } from '@lowrank/lora/node';
import { saveModel } from '@lowrank/merge';
import type { CausalLm, Tokenizer } from '@lowrank/models';
import { type Device, keep, LowrankError } from '@lowrank/tensor';
import {
  type AnomalyMonitor,
  type CheckpointStore,
  type Dataset,
  type Metric,
  Trainer,
  type TrainResult,
} from '@lowrank/trainer';
import { FolderCheckpoints, JsonlMetrics } from '@lowrank/trainer/node';
import type { Settings } from '../options/schema.ts';
import type { Console } from '../report/console.ts';
import { TrainingProgress } from '../report/progress.ts';
import { answer, type Question } from './answers.ts';
import { copyCompanions, diskError, writeWhole } from './output.ts';
import { type Subject, weightDtype } from './session.ts';
import { dropsOut, identityOf, type Trainee, trainerSettings } from './training.ts';

/** A run that is ready to go. */
export interface Run {
  readonly subject: Subject;
  /** `output` is set, and its folder there. */
  readonly settings: Settings;
  readonly device: Device;
  readonly model: CausalLm;
  readonly tokenizer: Tokenizer;
  readonly trainee: Trainee;
  readonly data: Dataset;
  readonly evalData: Dataset | undefined;
  readonly anomalies?: AnomalyMonitor | undefined;
  /** Asked before and after. */
  readonly questions: readonly Question[];
  /** What lowrank.json is to hold. */
  readonly record: Readonly<Record<string, unknown>>;
  readonly signal: AbortSignal;
  readonly ui: Console;
}

/** A question with what the model said before and after training. */
export interface ShownSample extends Question {
  readonly before: string;
  readonly after: string;
}

export interface FineTuned {
  readonly result: TrainResult;
  /** All of metrics.jsonl, also of the parts of a run that was gone on with. */
  readonly metrics: readonly Metric[];
  readonly samples: readonly ShownSample[];
}

/** Trains, saves, and asks the questions again. A run that was stopped ends with its checkpoint alone. */
export async function fineTune(run: Run): Promise<FineTuned> {
  const { settings, ui, signal } = run;
  const output = settings.output!;
  const before = await ask(run, 'before');
  const metrics = new JsonlMetrics(join(output, 'metrics.jsonl'));
  const result = await train(run, metrics);
  if (result.stopped === 'aborted') return { result, metrics: await readMetrics(metrics.path), samples: [] };
  await saveTrained(run);
  const after = await ask(run, 'after');
  if (signal.aborted) ui.note('saved; the rest is left out');
  const samples = run.questions.map((q, i) => ({ ...q, before: before[i]!, after: after[i]! }));
  return { result, metrics: await readMetrics(metrics.path), samples };
}

async function train(run: Run, metrics: JsonlMetrics): Promise<TrainResult> {
  const { settings, subject, device, trainee, data, evalData, anomalies, signal, ui } = run;
  const { lora } = trainee;
  const { store, which } = checkpointStore(settings);
  using seed = keep(device.withClass('workspace', () => device.seed(settings.seed ?? 0)));
  const dropout = lora !== undefined && dropsOut(lora);
  if (dropout) lora.seed = seed;
  const progress = new TrainingProgress(ui);
  using trainer = new Trainer({
    ...trainerSettings(settings, subject.method),
    device,
    model: trainee.model,
    data,
    evalData,
    dropoutSeed: dropout ? seed : undefined,
    checkpoints: store,
    checkpointFiles: lora && (() => saveAdapter(lora, lora.active[0]!)),
    metrics,
    signal,
    anomalies,
    identity: identityOf(subject, trainee),
    onLog: ({ memory, ...record }) => {
      progress.step({ ...record, memory });
      ui.emit({ event: 'step', ...record, memoryBytes: memory.live, peakMemoryBytes: memory.peak });
    },
    onEvaluate: (record) => {
      if (!ui.json)
        ui.say(
          `step ${record.step}: evaluation loss ${record.loss.toFixed(4)} over ${record.tokens} tokens${record.best ? ' (lowest so far)' : ''}`,
        );
      ui.emit({ event: 'evaluation', ...record });
    },
    onSave: (saved) => {
      ui.emit({ event: 'save', ...saved });
    },
  });
  if (which !== undefined) {
    const step = await trainer.resume(which);
    if (step !== undefined) ui.note(`going on from step ${step} of ${trainer.totalSteps}`);
    else if (settings.resume === 'auto') {
      await metrics.resume(0);
      ui.note(`no checkpoint in ${settings.output}: starting at the beginning`);
    } else
      throw new LowrankError(
        'resume',
        'no checkpoint there',
        settings.resume!,
        'Name a folder checkpoint-<step>, or the folder of a run that holds some',
      );
  }
  // once it is clear that the run goes on: one that is refused leaves the settings of the run that was
  await writeWhole(join(settings.output!, 'lowrank.json'), `${JSON.stringify(run.record, undefined, 2)}\n`);
  try {
    return await trainer.train();
  } catch (error) {
    throw diskError(error, settings.output!);
  } finally {
    ui.clear();
  }
}

/** Where checkpoints go, and which one to begin from. */
function checkpointStore({ output, resume, saveTotalLimit }: Settings): {
  store: CheckpointStore;
  which: 'latest' | number | undefined;
} {
  const own = new FolderCheckpoints(output!, saveTotalLimit === undefined ? {} : { keep: saveTotalLimit });
  if (resume === undefined) return { store: own, which: undefined };
  if (resume === 'auto' || resolve(resume) === resolve(output!)) return { store: own, which: 'latest' };
  const step = /^checkpoint-(\d+)$/.exec(basename(resume))?.[1];
  const folder = step === undefined ? resume : dirname(resume);
  const which = step === undefined ? 'latest' : Number(step);
  if (resolve(folder) === resolve(output!)) return { store: own, which };
  // begins in another run's folder, and saves in its own; the best so far may lie in either
  const other = new FolderCheckpoints(folder);
  let begun = false;
  return {
    which,
    store: {
      save: (checkpoint) => own.save(checkpoint),
      load: async (wanted) => {
        const first = begun ? own : other;
        begun = true;
        return (await first.load(wanted)) ?? (typeof wanted === 'number' ? other.load(wanted) : undefined);
      },
    },
  };
}

async function saveTrained({ settings, subject, model, tokenizer, trainee }: Run): Promise<void> {
  const output = settings.output!;
  try {
    if (trainee.lora) await saveAdapterFolder(trainee.lora, trainee.lora.active[0]!, output, { overwrite: true });
    else {
      await saveModel(model, folderSinks(output), {
        config: subject.config.json,
        dtype: weightDtype('full', settings.dtype) ?? 'f32',
      });
      await copyCompanions(subject.files, tokenizer, output);
    }
  } catch (error) {
    throw diskError(error, output);
  }
}

async function ask({ questions, model, tokenizer, settings, signal, ui }: Run, when: string): Promise<string[]> {
  if (!questions.length || signal.aborted) return questions.map(() => '');
  ui.status(`${when}: answering ${questions.length} sample${questions.length > 1 ? 's' : ''}`);
  const answers = await answer(model, tokenizer, questions, { maxNewTokens: settings.maxNewTokens ?? 64 });
  ui.clear();
  return answers;
}

async function readMetrics(path: string): Promise<Metric[]> {
  const text = await readFile(path, 'utf8').catch(() => '');
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Metric);
}
