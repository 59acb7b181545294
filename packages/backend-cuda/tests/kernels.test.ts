import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { nvccPath } from '../../../scripts/testing/shared.ts';
import type { KernelManifest } from '../src/locate.ts';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const out = join(root, 'build/check');

const nvcc = nvccPath();
const title = `kernels compile with nvcc${nvcc.skip ? ` (skipped: ${nvcc.skip})` : ''}`;

describe.skipIf(nvcc.skip)(title, () => {
  test(
    'for sm_90a and as PTX',
    () => {
      const env = { ...process.env, LOWRANK_CUDA_ARCHS: 'sm_90a,compute_90', NODE_OPTIONS: '--conditions=source' };
      execFileSync(process.execPath, [join(root, 'scripts/build.mjs'), '--kernels', '--out', out], {
        env,
        stdio: ['ignore', 'ignore', 'inherit'],
      });
      const manifest = JSON.parse(readFileSync(join(out, 'kernels/kernels.json'), 'utf8')) as KernelManifest;
      expect(manifest.targets).toEqual(['sm_90a', 'compute_90']);
      for (const [kernel, module] of Object.entries(manifest.kernels)) {
        const path = join(out, 'kernels', `${module}.fatbin`);
        expect(existsSync(path) && statSync(path).size > 0, kernel).toBe(true);
        // Names are stored as they are: a kernel that the manifest promises is in its module.
        expect(readFileSync(path).includes(kernel), `${kernel} in ${module}`).toBe(true);
      }
    },
    30 * 60_000,
  );
});
