/** What the jobs that load whole models share. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type CausalLm, loadModel, type ModelFiles } from '@lowrank/models';
import { BlockwiseWeight, fromBnbTensors } from '@lowrank/nf4';
import { Device, type QuantType } from '@lowrank/tensor';
import type { TrainableModel } from '@lowrank/trainer';
import { openBackend, reasonOf } from '../backends.ts';
import { environment, factsOf } from '../environment.ts';
import type { Message } from './protocol.ts';

export type Storage = 'dense' | QuantType;
export type Result = Omit<Extract<Message, { event: 'result' }>, 'event' | 'name' | 'cpuMilliseconds'>;

const tell = (m: Message) => process.stdout.write(`${JSON.stringify(m)}\n`);

/** The folder `bundled/`: of the repository, also where this is a packed file within it, or beside that file. */
export function bundledFolder(): string {
  for (let at = import.meta.dirname; ; at = dirname(at)) {
    const folder = join(at, 'bundled');
    if (existsSync(join(folder, 'model/config.json'))) return folder;
    if (dirname(at) === at)
      throw new Error(`the bundled model is not there: no folder bundled/ at or above ${import.meta.dirname}`);
  }
}

/** Loads a model with its linear layers stored as asked; a bitsandbytes checkpoint as it is. */
export function load(
  device: Device,
  files: ModelFiles,
  storage: Storage,
  more: { readonly full?: boolean; readonly onTensor?: () => void } = {},
): Promise<CausalLm> {
  return loadModel(device, files, {
    ...(more.full ? { weightDtype: 'f32' as const } : {}),
    ...(more.onTensor ? { onProgress: more.onTensor } : {}),
    blockwise: (name, names, read) => fromBnbTensors(device, name, names, read),
    ...(storage === 'dense'
      ? {}
      : {
          quantize: (_: string, values: Parameters<typeof BlockwiseWeight.quantize>[0]) =>
            BlockwiseWeight.quantize(values, { quantType: storage }),
        }),
  });
}

export const forward = (model: CausalLm): Pick<TrainableModel, 'hidden' | 'head' | 'prepare'> => ({
  hidden: (ids, input) => model.hidden(ids, input),
  head: (rows) => model.head(rows),
  prepare: (length) => model.prepare(length),
});

/** Opens the backend that the command line names, runs the job on it and ends the process: `job.ts BACKEND JSON`. */
export async function runJob<J extends { readonly name: string; readonly threads?: number | undefined }>(
  parse: (json: unknown) => J,
  run: (device: Device, job: J) => Promise<Result>,
): Promise<never> {
  try {
    const [name, json] = process.argv.slice(2) as [string, string];
    const job = parse(JSON.parse(json));
    const opened = await openBackend(name, { threads: job.threads });
    const { device: what, driver, features } = factsOf(opened);
    await using device = new Device(opened);
    tell({ event: 'ready', device: what, driver, features, packages: environment().packages });
    const result = await run(device, job);
    const { user, system } = process.cpuUsage();
    tell({ event: 'result', name: job.name, ...result, cpuMilliseconds: (user + system) / 1000 });
    tell({ event: 'done', figures: {}, notes: [] });
  } catch (error) {
    tell({ event: 'failed', reason: reasonOf(error) });
  }
  process.exit(0);
}
