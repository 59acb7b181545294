import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { unzipSync } from 'fflate';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { need, pythonPath } from '../../../scripts/testing/shared.ts';
import { accessibility } from './accessibility.ts';
import {
  browserPath,
  launch,
  open,
  picture,
  ready,
  savedLosses,
  serve,
  waitFor,
  withWebGpu,
  workerOf,
} from './site.ts';
import { measure, most, record } from './size.ts';

const run = promisify(execFile);
const root = resolve(import.meta.dirname, '../../..');
const lines = readFileSync(join(root, 'bundled/instructions/train.jsonl'), 'utf8').trim().split('\n');
/** The last ones are held out. */
const samples = lines.slice(0, 240);
const heldOut = 16;

const title = `the page${browserPath.skip ? ` (skipped: ${browserPath.skip})` : ''}`;

describe.skipIf(browserPath.skip)(title, () => {
  const work = mkdtempSync(join(tmpdir(), 'lowrank-page-'));
  const site = inject('site');
  const adapter = join(work, 'adapter');
  let browser: Browser;
  let server: Awaited<ReturnType<typeof serve>>;
  /** Losses of the run on WebAssembly, and what was measured on the held-out samples at its end. */
  let losses: number[] = [];
  let measured = Number.NaN;

  beforeAll(async () => {
    server = await serve(site);
    browser = await launch(withWebGpu);
  });
  afterAll(async () => {
    await browser?.close();
    await server?.close();
    rmSync(work, { recursive: true, force: true });
  });

  const context = (options: Parameters<Browser['newContext']>[0] = {}): Promise<BrowserContext> =>
    browser.newContext({ viewport: { width: 1440, height: 900 }, ...options });

  async function prepare(page: Page, settings: Record<string, string>): Promise<void> {
    await page.check('input[name=data][value=file]');
    const buffer = Buffer.from(samples.join('\n'));
    await page.setInputFiles('#data-file', { name: 'requests.jsonl', mimeType: 'application/jsonl', buffer });
    await page.waitForFunction(() => document.getElementById('data-facts')!.textContent?.includes('requests.jsonl'));
    await page.click('summary');
    for (const [id, value] of Object.entries(settings))
      if (id === 'backend' || id === 'method') await page.selectOption(`#${id}`, value);
      else await page.fill(`#${id}`, value);
    // the forecast follows the last change after a moment; until then nothing can be started
    expect(await page.isDisabled('#start')).toBe(true);
    await page.waitForSelector('#start:enabled');
    expect(await page.textContent('#data-facts')).toContain(
      `${samples.length - heldOut} samples to learn; 16 held out`,
    );
    expect(await page.textContent('#forecast')).toMatch(/Takes about .* of memory; trains 215,040 of/);
  }

  const settings = { heldOut: String(heldOut), r: '8', loraAlpha: '16', batchSize: '4', maxSteps: '40' };
  const step = async (page: Page) => Number((await page.textContent('#f-step'))!.split('/')[0]);

  test('trains by QLoRA until the loss has fallen by half, through a reload and a pause; gives answers and files', async () => {
    const tab = await context({ acceptDownloads: true });
    const { page, wrong } = await open(tab, server.origin);
    await ready(page);
    expect(await page.textContent('#device')).toMatch(/^WebAssembly: .*, \d+ threads?$/);
    expect(await page.textContent('#notice')).toMatch(/WebGPU .* Training runs on WebAssembly/);
    await prepare(page, settings);
    await picture(page, 'setup-1440-light');
    await page.focus('#start');
    await page.keyboard.press('Enter');
    await waitFor(page, 'Training');
    await page.waitForFunction(() => document.querySelector('progress')!.value >= 0.3);
    await picture(page, 'training-1440-light');

    const before = await step(page);
    await page.reload();
    await waitFor(page, 'Training');
    const after = await step(page);
    // a checkpoint is saved every four steps; nothing before it is done again
    expect(after).toBeGreaterThanOrEqual(before - 8);

    await page.click('#pause');
    await waitFor(page, 'Paused');
    expect(await page.isVisible('#chat-section')).toBe(true);
    await page.reload();
    await waitFor(page, 'Paused');
    await page.setViewportSize({ width: 390, height: 844 });
    await page.emulateMedia({ colorScheme: 'dark' });
    await picture(page, 'paused-390-dark');
    await page.click('#resume');
    await waitFor(page, 'Done');

    losses = await savedLosses(page);
    expect(losses).toHaveLength(40);
    const mean = (part: number[]) => part.reduce((a, b) => a + b, 0) / part.length;
    expect(mean(losses.slice(-5))).toBeLessThan(mean(losses.slice(0, 2)) / 2);
    measured = Number(await page.getAttribute('#f-held', 'title'));
    expect(measured).toBeLessThan(losses[0]! / 2);
    expect(await page.locator('.sample').count()).toBe(4);
    await accessibility(page, 'a run, 390 pixels, dark');
    await picture(page, 'done-390-dark');

    await page.setViewportSize({ width: 1440, height: 900 });
    await page.emulateMedia({ colorScheme: 'light' });
    await page.fill('#message', 'Please count down 58 minutes.');
    await page.keyboard.press('Enter');
    await page.waitForSelector('#send:disabled');
    await page.waitForSelector('#send:enabled');
    expect(await page.textContent('.turn.assistant pre')).toMatch(/^\{"do":/);
    await accessibility(page, 'a run, 1440 pixels, light');
    await picture(page, 'done-1440-light');

    unpack(await download(page, '#download-adapter'), work);
    unpack(await download(page, '#download-merged'), work);
    await tab.close();
    expect(wrong).toEqual([]);
  });

  async function download(page: Page, button: string): Promise<Uint8Array> {
    const [file] = await Promise.all([page.waitForEvent('download'), page.click(button)]);
    return readFileSync(await file.path());
  }

  function unpack(zip: Uint8Array, folder: string): void {
    for (const [name, bytes] of Object.entries(unzipSync(zip))) {
      const path = join(folder, name);
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, bytes);
    }
  }

  async function evaluate(...args: string[]): Promise<number> {
    const data = join(work, 'heldout.jsonl');
    writeFileSync(data, samples.slice(-heldOut).join('\n'));
    const main = join(root, 'packages/cli/src/main.ts');
    const all = ['--conditions=source', main, 'eval', '--data', data, '--backend', 'cpu', '--json', ...args];
    const { stdout } = await run(process.execPath, all, { cwd: work });
    return (JSON.parse(stdout.trim().split('\n').at(-1)!) as { loss: number }).loss;
  }

  test('the command line measures the same loss of the adapter', async () => {
    expect(await evaluate('--model', 'bundled', '--adapter', adapter)).toBeCloseTo(measured, 3);
  });

  test('the merged model measures about the same: its weights are rounded to bf16', async () => {
    const loss = await evaluate('--model', join(work, 'merged'));
    expect(Math.abs(loss / measured - 1)).toBeLessThan(0.05);
  });

  test('PEFT loads the adapter with no key missing or left over', async (test) => {
    const python = need(test, pythonPath());
    const script = join(import.meta.dirname, 'load_adapter.py');
    const { stdout } = await run(python, [script, join(root, 'bundled/model'), adapter]);
    const found = JSON.parse(stdout.trim().split('\n').at(-1)!) as { lora: number; zero: number; unexpected: string[] };
    expect(found).toEqual({ lora: 84, zero: 0, unexpected: [] });
  });

  test('opens offline once it was loaded; looks right in both widths and colours; says what is wrong', async () => {
    const tab = await context({ viewport: { width: 390, height: 844 } });
    const { page, wrong } = await open(tab, server.origin);
    await ready(page);
    await tab.setOffline(true);
    await page.reload();
    await page.waitForSelector('#start:enabled');
    await picture(page, 'setup-390-light');
    await accessibility(page, 'the forms, 390 pixels, light');
    await page.emulateMedia({ colorScheme: 'dark' });
    await page.setViewportSize({ width: 1440, height: 900 });
    await page.check('input[name=data][value=paste]');
    await page.fill('#paste', '{"prompt":"a","completion":"b"}\n{"prompt":');
    await page.waitForSelector('#data-facts.wrong');
    expect(await page.textContent('#data-facts')).toMatch(/line 2 of pasted text/);
    expect(await page.isDisabled('#start')).toBe(true);
    await page.check('input[name=model][value=hub]');
    expect(await page.textContent('#hub-closed')).toMatch(/may talk to no other site/);
    await accessibility(page, 'the forms, 1440 pixels, dark');
    await picture(page, 'setup-1440-dark');
    const wide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
    expect(wide).toBe(false);
    // the policy of the page binds its worker too
    await tab.setOffline(false);
    const worker = workerOf(page);
    const refusal = await worker.evaluate(async () => {
      const seen = new Promise<string>((done) =>
        addEventListener('securitypolicyviolation', (event) => {
          const { effectiveDirective, blockedURI } = event as SecurityPolicyViolationEvent;
          done(`${effectiveDirective} ${blockedURI}`);
        }),
      );
      const answer = await fetch('https://example.com/').then(() => 'answered', String);
      return `${answer}; ${await Promise.race([seen, new Promise((done) => setTimeout(done, 3000, 'nothing seen'))])}`;
    });
    expect(refusal).toMatch(/TypeError.*; connect-src https:\/\/example\.com/);
    expect(wrong.filter((text) => !/example\.com/.test(text))).toEqual([]);
    await tab.close();
  });

  test('script and WebAssembly take no more than 400 kB compressed', () => {
    const size = measure(site);
    record(size);
    expect(size.gzip).toBeLessThanOrEqual(most);
  });
});
