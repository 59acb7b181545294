import type { DataInputChoice, ModelChoice, ModelFacts, Phase, RunSettings, RunView } from '../protocol.ts';
import { PrivateCheckpoints } from './checkpoints.ts';
import { PrivateFolder } from './opfs.ts';

/** A run as the private storage knows it; steps and tensors are in its checkpoints. */
export interface RunRecord {
  readonly version: 1;
  readonly modelKind: ModelChoice['kind'];
  readonly model: ModelFacts;
  readonly data: RunView['data'];
  readonly settings: RunSettings;
  readonly phase: Phase;
  readonly samples: RunView['samples'];
  readonly evaluations: RunView['evaluations'];
  /** How often it was gone on with since its last checkpoint. */
  readonly tries: number;
}

const folder = new PrivateFolder('run');
const names = ['record-a.json', 'record-b.json'] as const;

type Saved = RunRecord & { readonly serial: number };

async function both(): Promise<(Saved | undefined)[]> {
  return Promise.all(names.map((name) => folder.json<Saved>(name)));
}

/** The run that is kept, or undefined. */
export async function loadRecord(): Promise<RunRecord | undefined> {
  const [a, b] = await both();
  const latest = (a?.serial ?? 0) >= (b?.serial ?? 0) ? a : b;
  return latest?.version === 1 ? latest : undefined;
}

/** Two files take turns: whenever the page ends, one of them is whole. */
export async function saveRecord(record: RunRecord): Promise<void> {
  const [a, b] = (await both()).map((saved) => saved?.serial ?? 0) as [number, number];
  const older = a < b ? names[0] : names[1];
  await folder.write(older, JSON.stringify({ ...record, serial: Math.max(a, b) + 1 }));
}

export async function saveData(data: DataInputChoice): Promise<void> {
  await folder.write('data.json', JSON.stringify(data));
}

export async function loadData(): Promise<DataInputChoice | undefined> {
  return folder.json<DataInputChoice>('data.json');
}

export function checkpoints(): PrivateCheckpoints {
  return new PrivateCheckpoints(folder.in('checkpoints'));
}

/** Forgets the run, its checkpoints, its model's copy and what was made for download. */
export async function clearRun(): Promise<void> {
  const root = new PrivateFolder();
  for (const name of ['run', 'model', 'downloads']) await root.remove(name);
}
