import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { folderGguf } from './gguf.ts';
import { type Hub, serveHub } from './hub.ts';
import { browserPath, fill, launch, open, picture, ready, serve, waitFor } from './site.ts';

const model = resolve(import.meta.dirname, '../../../bundled/model');
const records = ['cats', 'dogs', 'cows', 'owls'].map((who) => ({ prompt: `What do ${who} say?\n`, completion: who }));
/** As short as a run can be. */
const short = { maxSteps: '2', batchSize: '2', heldOut: '0', shown: '0', r: '4' };

const title = `models from elsewhere, in a browser without WebGPU${browserPath.skip ? ` (skipped: ${browserPath.skip})` : ''}`;

describe.skipIf(browserPath.skip)(title, () => {
  const work = mkdtempSync(join(tmpdir(), 'lowrank-sources-'));
  let browser: Browser;
  let hub: Hub;
  let server: Awaited<ReturnType<typeof serve>>;

  beforeAll(async () => {
    hub = await serveHub({ 'lowrank/tiny': model, 'gated/tiny': model });
    server = await serve(inject('site'));
    browser = await launch(hub.args);
  });
  afterAll(async () => {
    await browser?.close();
    await server?.close();
    await hub?.close();
    rmSync(work, { recursive: true, force: true });
  });

  async function tab(path?: string): Promise<{ page: Page; close: () => Promise<void> }> {
    const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
    const { page } = await open(context, server.origin, path);
    await ready(page);
    return { page, close: () => context.close() };
  }

  /** Two steps, the second after a reload has shown that the model was kept. */
  async function trains(page: Page, name: string): Promise<void> {
    await fill(page, records, short);
    await page.click('#start');
    await waitFor(page, 'Done');
    expect(await page.textContent('#run-facts')).toContain(`${name}, QLoRA, rank 4`);
    expect(await page.textContent('#f-step')).toBe('2 / 2');
    await page.reload();
    await waitFor(page, 'Done');
    await page.fill('#message', 'What do owls say?');
    await page.keyboard.press('Enter');
    await page.waitForSelector('#send:disabled');
    await page.waitForSelector('#send:enabled');
    expect(await page.isVisible('#alert')).toBe(false);
  }

  const facts = async (page: Page, part: string) => {
    const shown = (text: string) => document.getElementById('model-facts')!.textContent?.includes(text);
    await page.waitForFunction(shown, part);
    return page.textContent('#model-facts');
  };

  test('says why it runs on WebAssembly', async () => {
    const { page, close } = await tab();
    expect(await page.textContent('#notice')).toMatch(/WebGPU is not available here .*no adapter.* WebAssembly/s);
    await close();
  });

  test('a folder from disk, and what is wrong with another', async () => {
    const { page, close } = await tab();
    await page.check('input[name=model][value=files]');
    const empty = join(work, 'config.json');
    writeFileSync(empty, '{"model_type":"gpt2"}');
    await page.setInputFiles('#model-folder', work);
    await page.waitForSelector('#model-facts.wrong');
    expect(await page.isDisabled('#start')).toBe(true);
    await page.setInputFiles('#model-folder', model);
    expect(await facts(page, '6 layers')).toBe(
      'model (llama): 6 layers, 256 wide, vocabulary 4,096, reads 512 tokens, chat template',
    );
    await trains(page, 'model');
    await close();
  });

  test('a GGUF file from disk', async () => {
    const path = join(work, 'tiny-q8.gguf');
    writeFileSync(path, await folderGguf(model));
    const { page, close } = await tab();
    await page.check('input[name=model][value=files]');
    await page.setInputFiles('#model-gguf', path);
    expect(await facts(page, '6 layers')).toMatch(/^tiny-q8\.gguf \(llama\): 6 layers, 256 wide, vocabulary 4,096/);
    await trains(page, 'tiny-q8.gguf');
    await close();
  });

  test('a model of the hub, its weights from another host; ids that are not there, and gated ones', async () => {
    const { page, close } = await tab('/hub.html');
    await page.check('input[name=model][value=hub]');
    const lookUp = async (id: string, token = '') => {
      await page.fill('#hub-id', id);
      await page.fill('#hub-token', token);
      await page.click('#hub-load');
    };
    await lookUp('lowrank/none');
    await page.waitForSelector('#model-facts.wrong');
    expect(await page.textContent('#model-facts')).toMatch(/the hub refuses access: lowrank\/none.*correct the id/);
    await lookUp('gated/tiny', 'hf_test');
    await facts(page, 'gated/tiny (llama): 6 layers');
    await lookUp('lowrank/tiny');
    await facts(page, 'lowrank/tiny (llama): 6 layers');
    await picture(page, 'hub-1440-light');
    await trains(page, 'lowrank/tiny');
    expect(hub.asked).toContain('GET cdn-lfs.hf.co/blobs/lowrank/tiny/model.safetensors');
    await close();
  });
});
