import { accessSync, constants, mkdtempSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CausalLm, Tokenizer } from '@lowrank/models';
import { type Settings, schema } from '../options/schema.ts';
import type { Console } from '../report/console.ts';
import { duration, ownCommand, percent } from '../report/format.ts';
import { summarize } from '../report/summary.ts';
import { answer, exactMatches, type Question, questionsOf } from '../run/answers.ts';
import { bundledFolder } from '../run/bundled.ts';
import { loadDataset } from '../run/data.ts';
import { fineTune } from '../run/fine-tune.ts';
import { openSession } from '../run/session.ts';
import { merge } from './merge.ts';
import { withRun } from './train.ts';

/** Share of the held-out requests that must be answered exactly. */
const target = 0.8;
/** Tokens that the longest command takes, and some more. */
const longestAnswer = 56;

/** `lowrank demo`: the bundled model learns to turn requests into commands. Fails where it does not learn enough. */
export async function demo(given: Settings, ui: Console): Promise<number> {
  const start = performance.now();
  const bundled = bundledFolder();
  const recipe = schema.parse(JSON.parse(await readFile(join(bundled, 'recipe.json'), 'utf8')));
  const output = given.output ?? ownFolder();
  const settings: Settings = {
    ...recipe,
    samples: 3,
    maxNewTokens: longestAnswer,
    ...given,
    model: 'bundled',
    data: join(bundled, 'instructions/train.jsonl'),
    evalData: given.evalData ?? join(bundled, 'instructions/heldout.jsonl'),
    output,
    // the demo replaces its own folder; one of yours is asked about
    overwrite: given.output === undefined || given.overwrite,
  };
  ui.say(
    `${ui.bold('lowrank demo')}\nThe bundled model writes plain English. From a few thousand examples it learns to turn a request into a JSON command,\nwith its weights in 4 bits (${recipe.quantType ?? 'nf4'}) and an adapter of rank ${recipe.r ?? 8} beside them.\n`,
  );
  const scores = { before: 0, after: 0, merged: 0 };
  const stopped = await withRun(settings, ui, async (run) => {
    const held = questionsOf(run.evalData!, run.tokenizer, run.evalData!.length);
    const score = (title: string) => judge(title, run.model, run.tokenizer, held, ui, run.signal);
    scores.before = await score('before');
    if (run.signal.aborted) return true;
    const done = await fineTune(run);
    if (done.result.stopped === 'aborted') {
      ui.say(
        `\nStopped at step ${done.result.step}. To go on:\n  ${ownCommand('train', '--config', join(output, 'lowrank.json'), '--resume')}`,
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
  scores.merged = await judge('merged', model, tokenizer, questionsOf(data, tokenizer, data.length), ui);
  const seconds = (performance.now() - start) / 1000;
  const reached = Math.min(scores.after, scores.merged) >= target;
  ui.emit({ event: 'demo', ...scores, target, reached, seconds, output });
  const line = `${percent(scores.before)} before, ${percent(scores.after)} after, ${percent(scores.merged)} merged`;
  ui.say(
    `\n${reached ? ui.bold('Done') : ui.bold('The target was missed')}: ${line} (target ${percent(target, 0)}), in ${duration(seconds)}.`,
  );
  if (reached) ui.say(`Ask it yourself:\n  ${ownCommand('generate', '--adapter', output, 'Wake me at 6 am.\\n')}`);
  return reached ? 0 : 1;
}

/** Share of held-out requests that are answered with exactly the expected command. */
async function judge(
  title: string,
  model: CausalLm,
  tokenizer: Tokenizer,
  held: readonly Question[],
  ui: Console,
  signal?: AbortSignal,
): Promise<number> {
  const onProgress = (n: number) => ui.status(`${title}: answered ${n} of ${held.length} held-out requests`);
  const answers = await answer(model, tokenizer, held, {
    maxNewTokens: longestAnswer,
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
