import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { lint } from './import-graph.ts';

let top = '';

afterEach(() => rmSync(top, { recursive: true, force: true }));

const entry = (file: string) => ({ source: file, types: './dist/x.d.ts', import: './dist/x.js' });
const manifest = (name: string, dependencies: string[] = [], more: object = {}) =>
  JSON.stringify({
    name,
    version: '1.0.0',
    exports: { '.': entry('./src/index.ts') },
    dependencies: Object.fromEntries(dependencies.map((each) => [each, '1'])),
    ...more,
  });

/** A workspace of kernels, tensor and trainer that breaks no rule, with files added or replaced. */
function lintWith(files: Record<string, string>): string[] {
  top = mkdtempSync(join(tmpdir(), 'lowrank-graph-'));
  const all: Record<string, string> = {
    'pnpm-workspace.yaml': 'packages:\n  - kernels\n  - packages/*\n',
    'package.json': '{ "devDependencies": { "vitest": "1" } }',
    'kernels/package.json': manifest('@lowrank/kernels', [], { exports: { '.': entry('./index.ts') } }),
    'kernels/index.ts': `export * from './add/contract.ts';\n`,
    'kernels/add/contract.ts': 'export const add = 1;\n',
    'packages/tensor/package.json': manifest('@lowrank/tensor', ['@lowrank/kernels']),
    'packages/tensor/src/index.ts': `export { add } from '@lowrank/kernels';\n`,
    'packages/tensor/tests/a.test.ts': `import 'vitest';\nimport 'node:fs';\nimport '../src/index.ts';\n`,
    'packages/trainer/package.json': manifest('@lowrank/trainer', ['@lowrank/tensor', 'papaparse']),
    'packages/trainer/src/index.ts': `import '@lowrank/tensor';\nimport 'papaparse';\n`,
    ...files,
  };
  for (const [name, text] of Object.entries(all)) {
    mkdirSync(dirname(join(top, name)), { recursive: true });
    writeFileSync(join(top, name), text);
  }
  return lint(top);
}

test('a workspace that keeps the rules has no problems', () => {
  expect(lintWith({})).toEqual([]);
});

const broken: [what: string, files: Record<string, string>, says: RegExp][] = [
  [
    'an arrow that the table lacks',
    {
      'packages/trainer/package.json': manifest('@lowrank/trainer', ['@lowrank/kernels']),
      'packages/trainer/src/index.ts': `import type { A } from '@lowrank/kernels';\n`,
    },
    /^packages\/trainer\/src\/index\.ts:1: trainer may not import kernels/,
  ],
  [
    'an arrow in a manifest alone',
    {
      'packages/trainer/package.json': manifest('@lowrank/trainer', [
        '@lowrank/kernels',
        '@lowrank/tensor',
        'papaparse',
      ]),
    },
    /^packages\/trainer\/package\.json:1: trainer may not depend on kernels/,
  ],
  [
    'a dependency that is not declared',
    { 'packages/tensor/src/index.ts': `\nawait import('left-pad');\n` },
    /^packages\/tensor\/src\/index\.ts:2: "left-pad" is not in packages\/tensor\/package\.json/,
  ],
  [
    'a tool of the root in shipped code',
    { 'packages/tensor/src/index.ts': `import 'vitest';\n` },
    /"vitest" is not in packages\/tensor\/package\.json/,
  ],
  [
    'a path into another package',
    { 'packages/tensor/src/index.ts': `import '../../../kernels/index.ts';\n` },
    /leaves packages\/tensor/,
  ],
  [
    'an entry point that does not exist',
    { 'packages/tensor/src/index.ts': `import '@lowrank/kernels/add/contract.ts';\n` },
    /no entry point for "@lowrank\/kernels\/add\/contract\.ts"/,
  ],
  ['a Node built-in', { 'packages/tensor/src/index.ts': `import 'fs';\n` }, /Node built-in "fs"/],
  [
    'a Node global',
    { 'packages/tensor/src/index.ts': `export const n = () => process.pid;\n` },
    /"process" exists in Node only/,
  ],
  [
    'the node entry behind another entry',
    { 'packages/tensor/src/index.ts': `import './node.ts';\n`, 'packages/tensor/src/node.ts': `import 'node:fs';\n` },
    /"\.\/node\.ts" belongs to the node entry/,
  ],
  [
    "another package's node entry",
    { 'packages/tensor/src/index.ts': `import '@lowrank/kernels/node';\n` },
    /"@lowrank\/kernels\/node" is a node entry/,
  ],
  [
    'a cycle',
    { 'packages/tensor/src/a.ts': `import './b.ts';\n`, 'packages/tensor/src/b.ts': `export * from './a.ts';\n` },
    /import cycle: packages\/tensor\/src\/a\.ts → packages\/tensor\/src\/b\.ts → packages\/tensor\/src\/a\.ts/,
  ],
  [
    'reference loops within reach of tensor',
    {
      'kernels/index.ts': `export * from './add/reference.ts';\n`,
      'kernels/add/reference.ts': 'export const add = 1;\n',
    },
    /tensor reaches kernels\/add\/reference\.ts/,
  ],
  [
    'a test imported by shipped code',
    { 'packages/tensor/src/index.ts': `import '../tests/a.test.ts';\n` },
    /shipped code imports "\.\.\/tests\/a\.test\.ts"/,
  ],
];

test.each(broken)('reports %s', (_, files, says) => {
  const problems = lintWith(files);
  expect(problems.filter((text) => says.test(text))).toHaveLength(1);
});

test('allows Node in the node entry, cycles of types, and words that only look like Node globals', () => {
  const problems = lintWith({
    'packages/tensor/src/node.ts': `import 'node:fs';\nexport const id = process.pid;\n`,
    'packages/tensor/src/a.ts': `import type { B } from './b.ts';\nexport interface A { process: B }\n`,
    'packages/tensor/src/b.ts': `import type { A } from './a.ts';\nexport type B = A['process'] | null;\n`,
    'packages/tensor/src/autograd/node.ts': 'export class Node {}\n',
    'packages/tensor/src/index.ts': `export * from './autograd/node.ts';\n`,
    'packages/tensor/src/c.ts': `export const run = (process: { pid: number }) => process.pid;\n`,
  });
  expect(problems).toEqual([]);
});
