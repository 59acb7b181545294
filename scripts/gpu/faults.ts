/** Faults on the GPU that is here: faults.mjs RECORD [FILTER, or !FILTER for all others]. Each line says what was done to a process that trains, and what came of it. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as cases from '../../packages/backend-cuda/tests/support/fault-cases.ts';
import { Records } from './record.ts';

const [record, filter = ''] = process.argv.slice(2);
const records = new Records(record);
const place: cases.Place = {
  command: [process.execPath, join(dirname(fileURLToPath(import.meta.url)), 'fault-run.mjs')],
  folder: mkdtempSync(join(tmpdir(), 'lowrank-faults-')),
  env: {},
  settings: { shape: 'smollm2-135m', steps: 10, batch: 4, length: 512, dtype: 'bf16' },
  broken: { recorded: { settings: { faultAt: 5 } }, eager: { settings: { faultAt: 5 } } },
};
const part = async (name: string, body: () => Promise<cases.Outcome>) => {
  if (filter.startsWith('!') ? !name.includes(filter.slice(1)) : name.includes(filter)) await records.part(name, body);
};

const whole = await cases.undisturbed(place);
await part('a run twice gives the same adapter', async () => ({ ok: (await cases.undisturbed(place)) === whole }));
await part('a kernel that faults, recorded', () => cases.brokenKernel(place, whole, 'recorded'));
await part('a kernel that faults, launch by launch', () => cases.brokenKernel(place, whole, 'eager'));
for (const signal of ['SIGINT', 'SIGTERM', 'SIGKILL'] as const)
  for (const [at, milliseconds] of [
    [1, 0],
    [3, 4],
    [4, 9],
    [6, 1],
  ] as const)
    await part(`${signal} in a step`, () => cases.signalled(place, whole, { signal, at, milliseconds }));
for (const [at, milliseconds] of [
  [2, 2],
  [5, 7],
] as const)
  await part('SIGINT twice in a step', () =>
    cases.signalled(place, whole, { signal: 'SIGINT', at, milliseconds, twice: true }),
  );
await part('two processes on one GPU', () => cases.together(place, whole));
await part('out of memory', () => cases.outOfMemory(place, { shape: 'llama-3.2-1b', length: 2048, tooMany: 512 }));
await part('1,000 steps', () => cases.steady(place, { steps: 1000, batch: 1 }, 4 << 20));
await part('no driver', () =>
  cases.missing(place, { LOWRANK_CUDA_DRIVER: '/nowhere' }, /no NVIDIA driver library was found/),
);
await part('a library that is no driver', () =>
  cases.missing(place, { LOWRANK_CUDA_DRIVER: 'libm.so.6' }, /has no cuInit: the NVIDIA driver is too old/),
);
await part('no cuBLASLt', () => cases.missing(place, { LOWRANK_CUBLASLT: '/nowhere' }, /cuBLASLt is missing/));
rmSync(place.folder, { recursive: true, force: true });
console.log(records.failed ? `${records.failed} cases failed` : 'every case is as it must be');
process.exit(records.failed ? 1 : 0);
