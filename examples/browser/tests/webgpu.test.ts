import { readFileSync } from 'node:fs';
import { unzipSync } from 'fflate';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import {
  browserPath,
  fill,
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

const animals = ['cats', 'dogs', 'cows', 'owls', 'bees', 'ants', 'rats', 'pigs'];
const records = animals.map((who) => ({ prompt: `What do ${who} say?\n`, completion: `The ${who} say nothing.` }));
/** A checkpoint after each step. Little work, since the adapter is software. */
const steps = 6;
const settings = { maxSteps: String(steps), batchSize: '2', heldOut: '0', shown: '0', r: '4' };

const title = `WebGPU in the page${browserPath.skip ? ` (skipped: ${browserPath.skip})` : ''}`;

describe.skipIf(browserPath.skip)(title, () => {
  let browser: Browser;
  let server: Awaited<ReturnType<typeof serve>>;
  beforeAll(async () => {
    server = await serve(inject('site'));
    browser = await launch(withWebGpu);
  });
  afterAll(async () => {
    await browser?.close();
    await server?.close();
  });

  const kept = (page: Page) =>
    savedLosses(page).then(
      (all) => all.length,
      () => 0,
    );

  /** Bytes of the adapter's tensors, as the page gives them to take along. */
  async function adapterOf(page: Page): Promise<Uint8Array> {
    const [file] = await Promise.all([page.waitForEvent('download'), page.click('#download-adapter')]);
    return unzipSync(readFileSync(await file.path()))['adapter/adapter_model.safetensors']!;
  }

  async function discard(page: Page): Promise<void> {
    page.once('dialog', (dialog) => void dialog.accept());
    await page.click('#discard');
    await page.waitForSelector('#start:enabled');
  }

  test('the losses are those of WebAssembly; a device that is lost interrupts the run, which goes on to the same bytes', async () => {
    const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, acceptDownloads: true });
    const { page } = await open(context, server.origin);
    await ready(page);
    await fill(page, records, { ...settings, backend: 'wasm' });
    await page.click('#start');
    await waitFor(page, 'Done');
    const expected = await savedLosses(page);
    expect(expected).toHaveLength(steps);
    await discard(page);

    const worker = workerOf(page);
    await worker.evaluate(() => {
      const request = GPUAdapter.prototype.requestDevice;
      GPUAdapter.prototype.requestDevice = async function (...args) {
        const device = await request.apply(this, args);
        Object.assign(globalThis, { lose: () => device.destroy() });
        return device;
      };
    });
    await page.selectOption('#backend', 'webgpu');
    // the forecast follows a change after a moment; until then nothing can be started
    await page.waitForSelector('#start:disabled');
    await page.waitForSelector('#start:enabled');
    await page.click('#start');
    // the title of the run before stands until this one begins
    await expect.poll(() => kept(page), { timeout: 240_000, interval: 200 }).toBeGreaterThanOrEqual(1);
    await waitFor(page, 'Done');
    expect(await page.textContent('#device')).toMatch(/^WebGPU: /);
    const straight = await savedLosses(page);
    const adapter = await adapterOf(page);
    expect(straight).toHaveLength(steps);
    for (const [i, loss] of straight.entries())
      expect(Math.abs(loss - expected[i]!), `step ${i + 1}`).toBeLessThan(2e-3);
    await discard(page);

    await page.click('#start');
    await expect.poll(() => kept(page), { timeout: 240_000, interval: 200 }).toBeGreaterThanOrEqual(2);
    await worker.evaluate(() => (globalThis as unknown as { lose(): void }).lose());
    await waitFor(page, 'Interrupted');
    expect(await page.textContent('#run-failure')).toMatch(/the device was lost: .*Go on/s);
    await picture(page, 'interrupted-1440-light');
    const saved = await savedLosses(page);
    expect(saved.length).toBeGreaterThanOrEqual(2);
    expect(saved.length).toBeLessThan(steps);

    // on a new device, from the last checkpoint
    await page.click('#resume');
    await waitFor(page, 'Done');
    expect(await page.isVisible('#run-failure')).toBe(false);
    expect(await savedLosses(page)).toEqual(straight);
    expect(Buffer.compare(await adapterOf(page), adapter)).toBe(0);
    await context.close();
  });
});
