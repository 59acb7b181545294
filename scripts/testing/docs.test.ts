import { globSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { root } from '../workspace.ts';
import { cannotRun, runSnippet, snippets, workFolder } from './snippets.ts';

/** Blocks marked ```ts run on these pages are run on the sources. */
const pages = globSync(['README.md', 'docs/**/*.md'], {
  cwd: root,
  exclude: (path) => /(^|\/)(node_modules|api|\.cache)$/.test(path),
});

/** Inside docs/, so that the snippets find the packages which docs/package.json declares. */
const folder = join(root, 'docs/.cache/snippets');

test('the README has a snippet that runs', () => {
  expect(pages).toContain('README.md');
  const found = snippets(readFileSync(join(root, 'README.md'), 'utf8'), 'ts');
  expect(found.some(({ words }) => words.includes('run'))).toBe(true);
});

for (const page of pages) {
  for (const snippet of snippets(readFileSync(join(root, page), 'utf8'), 'ts')) {
    if (!snippet.words.includes('run')) continue;
    test(`${page}:${snippet.line} runs`, async (context) => {
      const reason = cannotRun(snippet);
      if (reason) context.skip(reason);
      mkdirSync(folder, { recursive: true });
      using work = workFolder();
      const file = join(folder, `${page.replaceAll('/', '-')}-${snippet.line}.ts`);
      await runSnippet(snippet, file, work.path, ['--conditions=source']);
    });
  }
}
