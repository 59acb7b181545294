import { expect, test } from 'vitest';
import { type Member, published } from '../workspace.ts';
import { lint, withoutSource } from './manifests.ts';

const tensor = published().find(({ room }) => room === 'tensor')!;

function problemsWith(change: Partial<Member['manifest']>): string[] {
  return lint([{ ...tensor, manifest: { ...tensor.manifest, ...change } }]).filter((text) => !text.includes('README'));
}

test('the manifest of tensor keeps the rules', () => {
  expect(problemsWith({})).toEqual([]);
});

test.each([
  [{ type: 'commonjs' }, '"type" must be "module"'],
  [{ license: 'MIT' }, '"license" must be'],
  [{ engines: { node: '>=18' } }, '"engines.node" must be'],
  [{ files: ['src'] }, '"files" must name "dist"'],
  [{ publishConfig: {} }, '"publishConfig.exports" must be'],
] as [Partial<Member['manifest']>, string][])('reports %o', (change, says) => {
  const problems = problemsWith(change);
  expect(problems).toHaveLength(1);
  expect(problems[0]).toContain(says);
});

test('reports a package with a version of its own', () => {
  const other = { ...tensor, manifest: { ...tensor.manifest, version: '9.9.9' } };
  expect(lint([tensor, other]).some((text) => text.includes('version 9.9.9'))).toBe(true);
});

test('the published exports lack the source condition only', () => {
  const exports = {
    '.': { source: './a.ts', types: './a.d.ts', import: './a.js' },
    './package.json': './package.json',
  };
  expect(withoutSource(exports)).toEqual({
    '.': { types: './a.d.ts', import: './a.js' },
    './package.json': './package.json',
  });
});
