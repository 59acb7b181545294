import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { browserPath, fill, launch, open, ready, savedLosses, serve, waitFor, workerOf } from './site.ts';

const animals = ['cats', 'dogs', 'cows', 'owls', 'bees', 'ants', 'rats', 'pigs'];
const records = animals.map((who) => ({ prompt: `What do ${who} say?\n`, completion: `The ${who} say nothing.` }));
/** A checkpoint after each step. */
const settings = { maxSteps: '6', batchSize: '2', heldOut: '0', shown: '0', r: '4' };

const title = `the page’s private storage${browserPath.skip ? ` (skipped: ${browserPath.skip})` : ''}`;

describe.skipIf(browserPath.skip)(title, () => {
  let browser: Browser;
  let server: Awaited<ReturnType<typeof serve>>;
  /** Losses of a run that nothing disturbed. */
  let losses: number[] = [];

  beforeAll(async () => {
    server = await serve(inject('site'));
    browser = await launch();
  });
  afterAll(async () => {
    await browser?.close();
    await server?.close();
  });

  async function begin(context: BrowserContext): Promise<Page> {
    const { page } = await open(context, server.origin);
    await ready(page);
    await fill(page, records, settings);
    return page;
  }

  test('with the keyboard alone: every control has its turn and a name, a run is started and ends', async () => {
    const context = await browser.newContext();
    const { page } = await open(context, server.origin);
    await ready(page);
    const seen: string[] = [];
    /** Goes on to the control of that kind and name. */
    const tabTo = async (control: string) => {
      for (let i = 0; i < 30 && !seen.at(-1)?.startsWith(control); i++) {
        await page.keyboard.press('Tab');
        seen.push(
          await page.evaluate(() => {
            const at = document.activeElement as HTMLInputElement;
            const kind = at.tagName === 'INPUT' ? at.type : at.tagName.toLowerCase();
            return `${kind} ${at.labels?.[0]?.textContent ?? at.textContent}`.replace(/\s+/g, ' ').trim();
          }),
        );
      }
      expect(seen.at(-1), seen.join(', ')).toMatch(new RegExp(`^${control}`));
    };
    await tabTo('radio Bundled');
    await tabTo('radio Example');
    await page.keyboard.press('ArrowRight');
    await tabTo('textarea Records');
    await page.keyboard.insertText(records.map((record) => JSON.stringify(record)).join('\n'));
    await tabTo('select Method');
    const type = async (control: string, text: string) => {
      await tabTo(control);
      await page.keyboard.type(text);
    };
    await type('number Rank', settings.r);
    await type('number Steps', settings.maxSteps);
    await tabTo('summary More');
    await page.keyboard.press('Enter');
    await type('number Batch size', settings.batchSize);
    await type('number Samples held out', settings.heldOut);
    await type('number Samples shown', settings.shown);
    await tabTo('select Runs on');
    await page.waitForFunction(() => document.getElementById('data-facts')!.textContent?.includes('pasted text'));
    await page.waitForSelector('#start:enabled');
    await tabTo('button Start training');
    await page.keyboard.press('Enter');
    await waitFor(page, 'Done');
    // what a screen reader is told of the run
    const told = await page.locator('main').ariaSnapshot();
    for (const part of [
      'heading "Done"',
      'progressbar "Steps done"',
      'img "Loss by step: 6 steps, now',
      'textbox "Message"',
    ])
      expect(told).toContain(part);
    losses = await savedLosses(page);
    expect(losses).toHaveLength(6);
    await context.close();
  });

  test('a tab that is closed while it saves loses nothing: the run gives the same losses', async () => {
    const context = await browser.newContext();
    const page = await begin(context);
    const saving = page.evaluate(
      () => new Promise((done) => new BroadcastChannel('test').addEventListener('message', done, { once: true })),
    );
    // in the middle of the third checkpoint's tensors the worker stands still
    await workerOf(page).evaluate(() => {
      const handle = (globalThis as unknown as { FileSystemSyncAccessHandle: { prototype: SyncHandle } })
        .FileSystemSyncAccessHandle.prototype;
      interface SyncHandle {
        write(data: Uint8Array, options: { at: number }): number;
      }
      const { write } = handle;
      let tensors = 0;
      handle.write = function (data, options) {
        const written = write.call(this, data, options);
        const header = options.at === 0 && new TextDecoder().decode(data.slice(8, 200)).includes('"dtype"');
        if (header && ++tensors === 3) {
          new BroadcastChannel('test').postMessage('saving');
          Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
        }
        return written;
      };
    });
    await page.click('#start');
    await saving;
    expect(await savedLosses(page)).toEqual(losses.slice(0, 2));
    await page.close();
    const { page: again } = await open(context, server.origin);
    await waitFor(again, 'Done');
    expect(await savedLosses(again)).toEqual(losses);
    await context.close();
  });

  test('storage that is full interrupts the run, which goes on when there is room', async () => {
    const context = await browser.newContext();
    const page = await begin(context);
    const control = await context.newCDPSession(page);
    const room = (quotaSize?: number) =>
      control.send('Storage.overrideQuotaForOrigin', {
        origin: server.origin,
        ...(quotaSize === undefined ? {} : { quotaSize }),
      });
    await page.click('#start');
    await expect
      .poll(
        () =>
          savedLosses(page).then(
            (all) => all.length,
            () => 0,
          ),
        { timeout: 120_000 },
      )
      .toBeGreaterThan(1);
    const { usage } = await page.evaluate(() => navigator.storage.estimate());
    await room(usage! + 1000);
    await waitFor(page, 'Interrupted');
    expect(await page.textContent('#run-failure')).toMatch(
      /the private storage of this page is full.*what was saved before is whole.*Go on/s,
    );
    const saved = await savedLosses(page);
    expect(saved).toEqual(losses.slice(0, saved.length));
    await room();
    await page.click('#resume');
    await waitFor(page, 'Done');
    expect(await savedLosses(page)).toEqual(losses);
    await context.close();
  });
});
