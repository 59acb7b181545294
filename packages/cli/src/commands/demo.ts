import { accessSync, constants, mkdtempSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CausalLm, Tokenizer } from '@lowrank/models';
import type { Settings } from '../options/schema.ts';
import type { Console } from '../report/console.ts';
import { duration, percent, shell } from '../report/format.ts';
import { summarize } from '../report/summary.ts';
import { answer, exactMatches, type Question, questionsOf } from '../run/answers.ts';
import { bundledFolder } from '../run/bundled.ts';
import { loadDataset } from '../run/data.ts';
import { fineTune } from '../run/fine-tune.ts';
import { openSession } from '../run/session.ts';
import { merge } from './merge.ts';
import { withRun } from './train.ts';

/** bundled/recipe.json: how the demo trains, and what it must reach. */
interface Recipe {
  readonly about: string;
  /** Share of held-out requests that must be answered exactly. */
  readonly target: number;
  readonly settings: Partial<Settings>;
}

/** `lowrank demo`: the bundled model learns to turn requests into commands. Fails where it does not learn enough. */
export async function demo(given: Settings, ui: Console): Promise<number> {
  const start = performance.now();
  const bundled = bundledFolder();
  const recipe = JSON.parse(await readFile(join(bundled, 'recipe.json'), 'utf8')) as Recipe;
  const output = given.output ?? ownFolder();
  const settings: Settings = {
    ...recipe.settings,
    ...given,
    model: 'bundled',
    data: join(bundled, 'instructions/train.jsonl'),
    evalData: join(bundled, 'instructions/heldout.jsonl'),
    output,
    // the demo replaces its own folder; one of yours is asked about
    overwrite: given.output === undefined || given.overwrite,
  };
  ui.say(`${ui.bold('lowrank demo')}\n${recipe.about}\n`);
  const scores = { before: 0, after: 0, merged: 0 };
  const stopped = await withRun(settings, ui, async (run) => {
    const held = questionsOf(run.evalData!, run.tokenizer, run.evalData!.length);
    const score = (title: string, ask = run) => judge(title, ask.model, ask.tokenizer, held, settings, ui, run.signal);
    scores.before = await score('before');
    if (run.signal.aborted) return true;
    const done = await fineTune(run);
    if (done.result.stopped === 'aborted') {
      ui.say(
        `\nStopped at step ${done.result.step}. To go on:\n  ${shell(['lowrank', 'train', '--config', join(output, 'lowrank.json'), '--resume'])}`,
      );
      return true;
    }
    const report = await summarize(run, done);
    ui.say();
    scores.after = await score('after');
    ui.say(`\nThe adapter is ${output}, the report ${report}.`);
    return run.signal.aborted;
  });
  if (stopped) return 130;
  const merged = join(output, 'merged');
  const quiet = { json: undefined, config: undefined, backend: given.backend, threads: given.threads };
  ui.say('Now the adapter is merged into the weights, and the merged model is loaded as any other.\n');
  await merge({ ...quiet, adapter: [output], output: merged, overwrite: true }, ui);
  await using session = await openSession({ ...quiet, model: merged }, ui);
  const { model, tokenizer, subject } = session;
  const data = await loadDataset(settings.evalData!, tokenizer, subject.config.config, settings, ui);
  scores.merged = await judge('merged', model, tokenizer, questionsOf(data, tokenizer, data.length), settings, ui);
  const seconds = (performance.now() - start) / 1000;
  const reached = Math.min(scores.after, scores.merged) >= recipe.target;
  ui.emit({ event: 'demo', ...scores, target: recipe.target, reached, seconds, output });
  const line = `${percent(scores.before)} before, ${percent(scores.after)} after, ${percent(scores.merged)} merged`;
  ui.say(
    `\n${reached ? ui.bold('Done') : ui.bold('The target was missed')}: ${line} (target ${percent(recipe.target, 0)}), in ${duration(seconds)}.`,
  );
  if (reached)
    ui.say(`Ask it yourself:\n  ${shell(['lowrank', 'generate', '--adapter', output, 'Wake me at 6 am.\\n'])}`);
  return reached ? 0 : 1;
}

/** Share of held-out requests that are answered with exactly the expected command. */
async function judge(
  title: string,
  model: CausalLm,
  tokenizer: Tokenizer,
  held: readonly Question[],
  settings: Settings,
  ui: Console,
  signal?: AbortSignal,
): Promise<number> {
  const onProgress = (n: number) => ui.status(`${title}: answered ${n} of ${held.length} held-out requests`);
  const answers = await answer(model, tokenizer, held, {
    maxNewTokens: settings.maxNewTokens ?? 64,
    onProgress,
    ...(signal ? { signal } : {}),
  });
  const matches = exactMatches(held, answers);
  const share = matches / held.length;
  ui.clear();
  ui.say(`${title}: ${ui.bold(percent(share))} of ${held.length} held-out requests answered exactly (${matches})`);
  return share;
}

/** ./lowrank-demo, or a temporary folder where nothing can be written here. */
function ownFolder(): string {
  try {
    accessSync('.', constants.W_OK);
    return 'lowrank-demo';
  } catch {
    return mkdtempSync(join(tmpdir(), 'lowrank-demo-'));
  }
}
