import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { isNodeEntry, isNodeOnly } from '../check/import-graph.ts';
import { chromiumPath, need } from '../testing/shared.ts';
import { cannotRun, runSnippet, snippets, workFolder } from '../testing/snippets.ts';
import { launch, open, serve } from '../testing/web.ts';
import { execute, type Member, published, root } from '../workspace.ts';
import { type Packed, packAll } from './pack.ts';
import { installAlone } from './project.ts';
import { buildExample, buildGuide, preview } from './tab.ts';

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

test('the tab of docs/guide/browser.md is built from ten files, trains in Chromium, and goes on after a reload', async (context) => {
  const chromium = need(context, chromiumPath());
  using work = workFolder();
  const app = join(work.path, 'training-tab');
  expect(await buildGuide(app, packed)).toHaveLength(10);
  const site = await preview(app);
  const browser = await launch(chromium);
  try {
    const { page, wrong } = await open(await browser.newContext(), site.origin);
    const status = () => page.textContent('#status');
    const train = async () => {
      await page.setInputFiles('#model', join(root, 'bundled/model'));
      await page.setInputFiles('#data', join(root, 'bundled/instructions/train.jsonl'));
      await page.fill('#steps', '8');
      await page.fill('#prompt', 'Please count down 58 minutes.\n');
      await page.click('button');
    };
    expect(await page.evaluate(() => crossOriginIsolated)).toBe(true);
    await train();
    await page.waitForFunction(() => /^Step [67]/.test(document.getElementById('status')!.textContent!));
    await page.reload();
    await train();
    const seen: string[] = [];
    await expect
      .poll(async () => seen.push((await status()) ?? '') && seen.at(-1), { timeout: 120_000, interval: 20 })
      .toMatch(/^Done/);
    // the checkpoint of step 5 was there
    expect(seen.filter((text) => /^Step [1-5]:/.test(text))).toEqual([]);
    expect(seen.some((text) => /^Step [678]: loss \d/.test(text))).toBe(true);
    expect(await page.textContent('#answer')).toMatch(/\w/);
    const files = await page.locator('#files a').allTextContents();
    expect(files).toEqual(expect.arrayContaining(['adapter_config.json', 'adapter_model.safetensors']));
    expect(wrong).toEqual([]);
  } finally {
    await browser.close();
    await site.close();
  }
});

test("the example's page is built from the packed packages, and trains", async (context) => {
  const chromium = need(context, chromiumPath());
  using work = workFolder();
  const folder = join(work.path, 'clone');
  const isolated = { 'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp' };
  const site = await serve(await buildExample(folder, packed), isolated);
  const browser = await launch(chromium);
  try {
    const { page, wrong } = await open(await browser.newContext(), `${site.origin}/`);
    await page.waitForSelector('#start:enabled', { timeout: 60_000 });
    await page.fill('#maxSteps', '2');
    await page.click('summary');
    await page.fill('#shown', '1');
    await page.fill('#heldOut', '4');
    expect(await page.isDisabled('#start')).toBe(true);
    await page.waitForSelector('#start:enabled');
    await page.click('#start');
    await page.waitForFunction(() => document.getElementById('run-title')!.textContent === 'Done', undefined, {
      timeout: 120_000,
    });
    expect(wrong).toEqual([]);
  } finally {
    await browser.close();
    await site.close();
  }
});

/** The packages that the README's install command names: `npm i @lowrank/lora @lowrank/backend-cpu`. */
function installedBy(readme: string, name: string): string[] {
  const command = /\bnpm (?:i|install) ([^\n`]+)/.exec(readme)?.[1] ?? '';
  const named = command.split(/\s+/).filter((word) => word === 'lowrank' || word.startsWith('@lowrank/'));
  return [...new Set([name, ...named])];
}
