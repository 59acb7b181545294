import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { LowrankError } from '@lowrank/tensor';
import { jsPeers } from '../peers/js.ts';
import { llamaPeer } from '../peers/llama.ts';
import { pythonPeers } from '../peers/python.ts';
import { backendNames, openBackend, reasonOf } from './backends.ts';
import { factsOf } from './environment.ts';
import { opCases } from './ops/cases.ts';
import { BackendContender, type Contender } from './ops/contender.ts';
import { runOps } from './ops/suite.ts';
import { checkFilter, help, matches, type Options, parseOptions, type SuiteName } from './options.ts';
import { type ContenderFacts, RecordFile, readRecords } from './record.ts';
import { htmlReport } from './report/html.ts';
import { comparison, table } from './report/table.ts';
import { Session } from './session.ts';
import { loadCases, qualityCases, runLoad, runQuality } from './suites/models.ts';
import { backendRunner, runTrain, type StepRunner, trainCases } from './suites/train.ts';

/** Where the command speaks; a test listens here. */
export interface Speech {
  out(text: string): void;
  err(text: string): void;
}

const all: Readonly<Record<SuiteName, readonly { readonly name: string; readonly quick: boolean }[]>> = {
  ops: opCases,
  train: trainCases,
  load: loadCases,
  quality: qualityCases,
};

/** The cases of a suite that the options ask for: of the quick set, or, where a filter finds none in it, of all. */
function chosen<C extends { readonly name: string; readonly quick: boolean }>(
  suite: SuiteName,
  cases: readonly C[],
  options: Options,
  reach: boolean,
): C[] {
  const found = cases.filter((c) => matches(options.filter, `${suite}/${c.name}`));
  return options.full || reach ? found : found.filter((c) => c.quick);
}

/** A backend that was found or asked for. */
interface Opened {
  readonly name: string;
  readonly facts: ContenderFacts;
  readonly contender: BackendContender;
  readonly dtype: 'f32' | 'f16' | 'bf16';
}

async function openAll(session: Session): Promise<Opened[]> {
  const { backends, threads, suites } = session.options;
  const opened: Opened[] = [];
  for (const name of backends ?? backendNames) {
    try {
      const backend = await openBackend(name, { threads });
      const facts = factsOf(backend);
      opened.push({
        name,
        facts,
        contender: new BackendContender(backend, facts),
        dtype: backend.caps.preferredCompute,
      });
      session.say(`${facts.name}: ${facts.device}`);
    } catch (error) {
      const reason = reasonOf(error);
      session.say(`${name} is not measured: ${reason}`);
      // what was not asked for may be missing
      if (backends)
        session.miss(
          suites[0]!,
          'backend',
          { name, kind: 'backend', device: '', driver: null, features: [] },
          'failed',
          reason,
        );
    }
  }
  return opened;
}

/** What `f` gives; undefined where what was asked cannot be done, and why is said. */
function refused<T>(speech: Speech, f: () => T): T | undefined {
  try {
    return f();
  } catch (error) {
    if (!(error instanceof LowrankError)) throw error;
    speech.err(error.message);
    return undefined;
  }
}

/** Runs the command; gives its exit code. */
export async function bench(argv: readonly string[], speech: Speech, signal: AbortSignal): Promise<number> {
  const asked = refused(speech, () => {
    const options = parseOptions(argv);
    if (!options.help)
      checkFilter(
        options.filter,
        options.suites.flatMap((s) => all[s].map((c) => `${s}/${c.name}`)),
      );
    return { options, old: options.compare ? readRecords(options.compare).records : undefined };
  });
  if (!asked) return 2;
  const { options, old } = asked;
  if (options.help) {
    speech.out(help);
    return 0;
  }
  const reach = options.filter !== undefined && !options.suites.some((s) => chosen(s, all[s], options, false).length);
  if (options.list) {
    for (const s of options.suites)
      for (const c of chosen(s, all[s], { ...options, full: true }, true))
        speech.out(`${s}/${c.name}${c.quick ? '  (quick)' : ''}`);
    return 0;
  }
  const path =
    options.out ?? join(import.meta.dirname, '../results', `${new Date().toISOString().replace(/[:.]/g, '-')}.jsonl`);
  const file = refused(speech, () => new RecordFile(path));
  if (!file) return 2;
  const say = options.json ? speech.err : speech.out;
  const session = new Session(options, {
    signal,
    say,
    write: (record) => {
      file.append(record);
      if (options.json) speech.out(JSON.stringify(record));
    },
  });
  let broken: string | undefined;
  const interrupted = await run(session, reach).catch((error: unknown) => {
    broken = error instanceof Error ? error.stack : String(error);
    return false;
  });
  const html = options.html ?? path.replace(/(\.jsonl)?$/, '.html');
  mkdirSync(dirname(html), { recursive: true });
  writeFileSync(html, htmlReport(session.records));
  say(`\n${table(session.records)}`);
  if (old) say(`\nagainst ${options.compare}\n${comparison(old, session.records)}`);
  say(`\nrecords ${path}\nreport  ${html}`);
  if (broken) speech.err(`the run ended early, its records so far are whole: ${broken}`);
  if (interrupted) say('interrupted: the records hold what was measured until then');
  return interrupted ? 130 : broken || session.failed ? 1 : 0;
}

/** Runs the suites; true where a signal ended them. */
async function run(session: Session, reach: boolean): Promise<boolean> {
  const { options, signal } = session;
  const opened = await openAll(session);
  const peers: Contender[] = [];
  try {
    const ops = chosen('ops', opCases, options, reach);
    if (options.suites.includes('ops') && ops.length) {
      if (options.against.includes('js')) {
        const { found, absent } = await jsPeers();
        peers.push(...found);
        for (const { facts, reason } of absent) session.miss('ops', 'peer', facts, 'absent', reason);
      }
      await runOps(session, [...opened.map((o) => o.contender), ...peers], ops);
    }
    // what follows runs in processes of its own: this one lets go of its devices first
    for (const { contender } of opened) await contender.close();
    const steps = chosen('train', trainCases, options, reach);
    if (options.suites.includes('train') && steps.length) {
      const runners: StepRunner[] = opened.map((o) => backendRunner(o.name, o.facts, o.dtype));
      const gpu = opened.some((o) => o.name === 'cuda' || o.name === 'webgpu');
      const places = [
        ...(gpu ? (['cuda'] as const) : []),
        ...(opened.some((o) => o.name === 'cpu') || !gpu ? (['cpu'] as const) : []),
      ];
      for (const peers of [
        ...(options.against.includes('python') ? [pythonPeers(places)] : []),
        ...(options.against.includes('llama') ? [llamaPeer()] : []),
      ]) {
        runners.push(...peers.found);
        for (const { facts, reason } of peers.absent) session.miss('train', 'peer', facts, 'absent', reason);
      }
      await runTrain(session, runners, steps);
    }
    if (options.suites.includes('load')) await runLoad(session, opened, chosen('load', loadCases, options, reach));
    if (options.suites.includes('quality'))
      await runQuality(session, opened, chosen('quality', qualityCases, options, reach));
    return false;
  } catch (error) {
    if (signal.aborted) return true;
    throw error;
  } finally {
    for (const { contender } of opened) await contender.close();
    for (const peer of peers) await peer.close();
  }
}
