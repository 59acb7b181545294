/**
 * Everything about the repository that a tool can judge.
 *
 *   pnpm check                 all
 *   pnpm check types imports   some
 */
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { lint as diagram } from '../docs/diagram.ts';
import { lint as packages } from '../packing/pack.ts';
import { execute, root } from '../workspace.ts';
import { lint as fileLength } from './file-length.ts';
import { lint as imports } from './import-graph.ts';
import { lint as manifests } from './manifests.ts';

interface Check {
  readonly says: string;
  /** What to do when it fails. */
  readonly hint: string;
  /** What is wrong, a text each; empty when all is well. */
  readonly find: () => string[] | Promise<string[]>;
}

const tool =
  (command: string, ...args: string[]) =>
  async () => {
    const { code, output } = await execute(command, args);
    return code === 0 ? [] : [output.trimEnd()];
  };

const checks: Record<string, Check> = {
  types: {
    says: 'TypeScript, all packages',
    hint: 'One package alone: npx tsc -p packages/<name>',
    find: tool('tsc', '-p', 'tsconfig.json'),
  },
  format: {
    says: 'format and lint (biome)',
    hint: 'Most of it mends itself: npx biome check --write <paths>',
    find: tool('biome', 'check', '--max-diagnostics=60', '--error-on-warnings', '.'),
  },
  imports: {
    says: 'who imports whom, cycles, Node built-ins',
    hint: 'The rules stand in scripts/check/import-graph.ts',
    find: imports,
  },
  length: { says: 'length of source files', hint: 'Cut along a noun, not at a line', find: fileLength },
  manifests: {
    says: 'package manifests and READMEs',
    hint: 'Compare with packages/tensor/package.json',
    find: manifests,
  },
  unused: {
    says: 'unused files, exports and dependencies (knip)',
    hint: 'Delete what nothing uses; entry points are named in knip.json',
    // Without .gitignore: the way to most kernels leads through generated/.
    find: tool('knip', '--no-progress', '--no-gitignore', '--no-config-hints'),
  },
  diagram: { says: 'diagram of the architecture', hint: 'pnpm diagram', find: diagram },
  packages: {
    says: 'packed packages (publint, are-the-types-wrong)',
    hint: 'exports, types and files of the package.json named above',
    find: packages,
  },
};

const asked = process.argv.slice(2);
const unknown = asked.filter((name) => !Object.hasOwn(checks, name));
if (unknown.length > 0) {
  console.error(`check: no check "${unknown.join('", "')}". Checks: ${Object.keys(checks).join(', ')}`);
  process.exit(2);
}

let failed = 0;
const names = asked.length > 0 ? asked : Object.keys(checks);
for (const name of names) {
  const { says, hint, find } = checks[name]!;
  const start = performance.now();
  const problems = await Promise.try(find).catch((error: unknown) => [String(error)]);
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  if (problems.length === 0) console.log(`✓ ${name}: ${says} (${seconds} s)`);
  else {
    failed++;
    console.log(`✗ ${name}: ${says} (${seconds} s)\n\n${problems.join('\n')}\n\n  ${hint}\n`);
  }
}
console.log(`${names.length - failed} of ${names.length} checks passed`);
const results = join(root, 'test-results');
if (existsSync(results)) {
  writeFileSync(join(results, 'checks.json'), JSON.stringify({ passed: names.length - failed, failed, skipped: [] }));
}
process.exitCode = failed === 0 ? 0 : 1;
