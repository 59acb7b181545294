import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { build } from 'esbuild';
import { type Browser, chromium } from 'playwright';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { chromiumPath } from '../../../scripts/testing/shared.ts';
import type { CpuOptions } from '../src/index.ts';
import type { PageResult } from './browser-page.ts';

const found = chromiumPath();
const title = `in a browser${found.skip ? ` (skipped: ${found.skip})` : ''}`;

describe.skipIf(found.skip)(title, () => {
  let server: Server;
  let browser: Browser;
  let origin: string;

  beforeAll(async () => {
    const entry = join(import.meta.dirname, 'browser-page.ts');
    const options = { bundle: true, format: 'esm', platform: 'browser', minify: true, write: false } as const;
    const { outputFiles } = await build({ ...options, entryPoints: [entry], conditions: ['source'] });
    server = createServer((request, response) => {
      // Memory is shared only in pages that are isolated from other origins.
      if (request.url === '/isolated') {
        response.setHeader('Cross-Origin-Opener-Policy', 'same-origin');
        response.setHeader('Cross-Origin-Embedder-Policy', 'require-corp');
      }
      const script = request.url === '/page.js';
      response.setHeader('Cross-Origin-Resource-Policy', 'same-origin');
      response.setHeader('Content-Type', script ? 'text/javascript' : 'text/html');
      response.end(script ? outputFiles[0]!.text : '<script type="module" src="/page.js"></script>');
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const args = ['--no-sandbox', '--disable-quic', '--no-first-run', '--disable-background-networking'];
    browser = await chromium.launch({ executablePath: found.path!, args });
  });
  afterAll(async () => {
    await browser?.close();
    server?.close();
  });

  async function run(path: string, options: CpuOptions): Promise<PageResult> {
    const page = await browser.newPage();
    try {
      await page.goto(origin + path);
      await page.waitForFunction('globalThis.product');
      return (await page.evaluate(`product(${JSON.stringify(options)})`)) as PageResult;
    } finally {
      await page.close();
    }
  }

  test('an isolated page computes on two threads', async () => {
    const { device, worst } = await run('/isolated', { threads: 2 });
    expect(device).toMatch(/WebAssembly SIMD.*, 2 threads$/);
    expect(worst).toBeLessThan(1e-4);
  });

  test('so does the build without relaxed SIMD', async () => {
    const { device, worst } = await run('/isolated', { threads: 2, simd: 'plain' });
    expect(device).toBe('WebAssembly SIMD, 2 threads');
    expect(worst).toBeLessThan(1e-4);
  });

  test('any other page computes on one thread and says why', async () => {
    const { device, worst } = await run('/', { threads: 2 });
    expect(device).toMatch(/1 thread; memory cannot be shared here/);
    expect(worst).toBeLessThan(1e-4);
  });
});
