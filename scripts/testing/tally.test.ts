import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { execute, readJson, root } from '../workspace.ts';
import type { Tally } from './tally.ts';

// Inside the repository, so that the files find Vitest.
const folder = join(root, '.cache/tally');
const file = join(folder, 'tally.json');

afterAll(() => rmSync(folder, { recursive: true, force: true }));

test('counts tests, files that do not load, and the reasons of skips', async () => {
  mkdirSync(folder, { recursive: true });
  writeFileSync(
    join(folder, 'a.test.ts'),
    `import { test } from 'vitest';
     test('passes', () => {});
     test('fails', () => { throw new Error('on purpose'); });
     test('skips', ({ skip }) => skip('the moon is not up'));\n`,
  );
  writeFileSync(join(folder, 'b.test.ts'), `throw new Error('does not load');\n`);
  const reporter = join(root, 'scripts/testing/tally.ts');
  const args = ['run', '--root', folder, `--reporter=${reporter}`];
  const { code } = await execute('vitest', args, { env: { LOWRANK_TALLY: file } });
  expect(code).toBe(1);
  expect(readJson<Tally>(file)).toEqual({
    passed: 1,
    failed: 2,
    skipped: [{ name: 'skips', reason: 'the moon is not up' }],
  });
});
