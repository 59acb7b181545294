import { execFileSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Builds the addon and the driver without a GPU before any test; both are kept while their sources do not change. */
export default function setup(): void {
  const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
  const run = (script: string, ...args: string[]) =>
    execFileSync(process.execPath, [join(root, script), ...args], {
      stdio: ['ignore', 'ignore', 'inherit'],
      env: { ...process.env, NODE_OPTIONS: '--conditions=source' },
    });
  run('scripts/build.mjs', '--addon');
  run('tests/emulator/build.mjs');
}
