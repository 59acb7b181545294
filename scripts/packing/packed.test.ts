import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { isNodeEntry, isNodeOnly } from '../check/import-graph.ts';
import { cannotRun, runSnippet, snippets, workFolder } from '../testing/snippets.ts';
import { execute, type Member, published, root } from '../workspace.ts';
import { type Packed, packAll } from './pack.ts';
import { installAlone } from './project.ts';

const folder = mkdtempSync(join(tmpdir(), 'lowrank-packed-'));
let packed: Packed[] = [];

beforeAll(async () => {
  packed = await packAll(folder);
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** `@lowrank/formats`, `@lowrank/formats/node` … */
function entryPoints({ manifest }: Member): string[] {
  const code = Object.entries(manifest.exports ?? {}).filter(([, target]) => typeof target !== 'string');
  return code.map(([entry]) => manifest.name + entry.slice(1));
}

const named = (members: Member[]) => members.map((member) => [member.manifest.name, member] as const);

describe.each(named(published()))('%s', (name, member) => {
  const readme = () => readFileSync(join(root, member.dir, 'README.md'), 'utf8');

  test('installs with its declared dependencies alone; every entry point loads in Node', async () => {
    using work = workFolder();
    await installAlone(work.path, [name], packed);
    const imports = entryPoints(member).map((entry) => `await import('${entry}');\n`);
    writeFileSync(join(work.path, 'load.js'), imports.join(''));
    expect(await execute('node', ['load.js'], { cwd: work.path })).toEqual({ code: 0, output: '' });
  });

  test('the snippet of its README runs', async (context) => {
    const [snippet] = snippets(readme(), 'ts');
    if (!snippet) throw new Error(`${member.dir}/README.md has no \`\`\`ts block`);
    const reason = cannotRun(snippet);
    if (reason) context.skip(reason);
    using work = workFolder();
    await installAlone(work.path, installedBy(readme(), name), packed);
    await runSnippet(snippet, join(work.path, 'snippet.ts'), work.path);
  });
});

test.each(named(published().filter(({ room }) => !isNodeOnly(room))))(
  '%s: its entries for a browser are bundled with no Node built-in',
  async (name, member) => {
    const imports = entryPoints(member).filter((entry) => !isNodeEntry(entry));
    using work = workFolder();
    await installAlone(work.path, [name], packed);
    const contents = imports.map((entry, i) => `export * as entry${i} from '${entry}';\n`).join('');
    const stdin = { contents, resolveDir: work.path };
    const options = { bundle: true, platform: 'browser', format: 'esm', write: false, logLevel: 'silent' } as const;
    const { errors } = await build({ stdin, ...options });
    expect(errors).toEqual([]);
  },
);

/** The packages that the README's install command names: `npm i @lowrank/lora @lowrank/backend-cpu`. */
function installedBy(readme: string, name: string): string[] {
  const command = /\bnpm (?:i|install) ([^\n`]+)/.exec(readme)?.[1] ?? '';
  const named = command.split(/\s+/).filter((word) => word === 'lowrank' || word.startsWith('@lowrank/'));
  return [...new Set([name, ...named])];
}
