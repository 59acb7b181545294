import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { emulate } from './support/emulated.ts';
import * as cases from './support/fault-cases.ts';

// The cases that scripts/gpu/faults.ts runs on a GPU, with a tiny model on the driver without a GPU.
emulate();
const folder = mkdtempSync(join(tmpdir(), 'lowrank-cuda-process-'));
const child = join(dirname(fileURLToPath(import.meta.url)), '../../../scripts/gpu/fault-run.ts');
const place: cases.Place = {
  command: [process.execPath, '--conditions=source', child],
  folder,
  env: {},
  settings: {},
  broken: {
    recorded: { env: { FAKE_CUDA_FAIL: 'cuGraphLaunch=700@4' } },
    eager: { env: { FAKE_CUDA_FAIL: 'cuLaunchKernel=700@300' } },
  },
};
let whole: string;
beforeAll(async () => {
  whole = await cases.undisturbed(place);
}, 120_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const good = async (outcome: Promise<cases.Outcome>) => expect(await outcome).toMatchObject({ ok: true });
const timeout = 240_000;

test(
  'a kernel that faults in a recorded step: its part is named, checkpoints are whole, the run goes on',
  { timeout },
  () => good(cases.brokenKernel(place, whole, 'recorded')),
);
test('launch by launch, the kernel that faults is named', { timeout }, () =>
  good(cases.brokenKernel(place, whole, 'eager')),
);
test.each(['SIGINT', 'SIGTERM', 'SIGKILL'] as const)('%s in the middle of a step', { timeout }, (signal) =>
  good(cases.signalled(place, whole, { signal, at: 3, milliseconds: 2 })),
);
test('SIGINT twice ends the process at once', { timeout }, () =>
  good(cases.signalled(place, whole, { signal: 'SIGINT', at: 3, milliseconds: 0, twice: true })),
);
test('two processes at the same time', { timeout }, () => good(cases.together(place, whole)));
test('out of memory: asked, held by class, what to lower; then a smaller run', { timeout }, () =>
  good(cases.outOfMemory(place, { tooMany: 400, filler: 66_000_000 })),
);
test('200 steps hold no more memory than 50', { timeout }, () => good(cases.steady(place, { steps: 200 }, 4 << 20)));
test('libraries that are missing are named', { timeout }, async () => {
  await good(cases.missing(place, { LOWRANK_CUDA_DRIVER: '/nowhere' }, /no NVIDIA driver library was found/));
  await good(cases.missing(place, { LOWRANK_CUDA_DRIVER: 'libm.so.6' }, /the NVIDIA driver is too old/));
  await good(cases.missing(place, { LOWRANK_CUBLASLT: '/nowhere' }, /cuBLASLt is missing/));
});
