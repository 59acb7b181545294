import { existsSync, globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { execute, ownFiles, root } from '../workspace.ts';
import { cannotRun, runSnippet, snippets, workFolder } from './snippets.ts';

/**
 * Blocks of these pages marked ```ts run are run on the sources, those marked file=… are the files of one project and pass the type check,
 * and those marked from=… quote a file.
 */
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

/** Inside the example, so that the page finds Vite and the packages. */
const guide = join(root, 'examples/browser/.cache/guide');

test('the files of docs/guide/browser.md pass the type check', async () => {
  const text = readFileSync(join(root, 'docs/guide/browser.md'), 'utf8');
  const files = snippets(text, 'ts').flatMap(({ words, code }) => {
    const name = settingOf(words, 'file');
    return name ? [[name, code] as const] : [];
  });
  expect(files.map(([name]) => name)).toEqual(
    expect.arrayContaining(['src/train.worker.ts', 'src/main.ts', 'vite.config.ts']),
  );
  rmSync(guide, { recursive: true, force: true });
  mkdirSync(join(guide, 'src'), { recursive: true });
  for (const [name, code] of files) writeFileSync(join(guide, name), code);
  writeFileSync(
    join(guide, 'tsconfig.json'),
    JSON.stringify({ extends: '../../../../tsconfig.base.json', include: ['.'] }),
  );
  expect(await execute('tsc', ['-p', guide])).toEqual({ code: 0, output: '' });
});

test('what a page quotes stands in the file', () => {
  let quoted = 0;
  for (const page of pages)
    for (const { words, code, line } of snippets(readFileSync(join(root, page), 'utf8'), 'ts')) {
      const from = settingOf(words, 'from');
      if (!from) continue;
      const lines = new Set(
        readFileSync(join(root, from), 'utf8')
          .split('\n')
          .map((text) => text.trim()),
      );
      const strange = code.split('\n').filter((text) => !lines.has(text.trim()));
      expect(strange, `${page}:${line} quotes ${from}`).toEqual([]);
      quoted++;
    }
  expect(quoted).toBeGreaterThan(0);
});

test('every link to a file leads somewhere', async () => {
  const dead: string[] = [];
  for (const page of (await ownFiles()).filter((file) => file.endsWith('.md'))) {
    const prose = readFileSync(join(root, page), 'utf8').replace(/^```[\s\S]*?^```$/gm, '');
    for (const [, target = ''] of prose.matchAll(/\]\(([^)\s]+)\)/g)) {
      const path = target.replace(/#.*$/, '');
      if (/^\w+:/.test(target) || path === '') continue;
      if (!existsSync(join(root, dirname(page), path))) dead.push(`${page}: ${target}`);
    }
  }
  expect(dead).toEqual([]);
});

/** `src/main.ts` of the word `file=src/main.ts`. */
function settingOf(words: readonly string[], key: string): string | undefined {
  return words.find((word) => word.startsWith(`${key}=`))?.slice(key.length + 1);
}
