/** The built page behind a plain static server, and a browser to open it with. */
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { type BrowserContext, chromium, type Page, type Worker } from 'playwright-core';
import { chromiumPath } from '../../../scripts/testing/shared.ts';

const types: Readonly<Record<string, string>> = {
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.json': 'application/json',
};

/** Where pictures of the page's states go, for a person to look at. */
export const pictures = resolve(import.meta.dirname, '../../../test-results/browser');

/** The browser that opens the page, or why there is none. */
export const browserPath = chromiumPath();

/** Builds the page into a folder, as a person would: in a process of its own, since tests set NODE_ENV. */
export async function buildSite(outDir: string, root = resolve(import.meta.dirname, '..')): Promise<void> {
  const vite = join(root, 'node_modules/vite/bin/vite.js');
  const env = { ...process.env, NODE_ENV: 'production' };
  await promisify(execFile)(process.execPath, [vite, 'build', '--outDir', outDir, '--emptyOutDir'], { cwd: root, env });
}

/** Serves a folder as any static host would: no headers of its own but the type. */
export async function serve(folder: string): Promise<{ origin: string; close: () => Promise<void> }> {
  const server = createServer((request, response) => {
    const path = new URL(request.url ?? '/', 'http://localhost').pathname;
    const file = join(folder, path.endsWith('/') ? `${path}index.html` : path);
    if (!existsSync(file)) return void response.writeHead(404).end();
    response.setHeader('Content-Type', types[extname(file)] ?? 'application/octet-stream');
    response.end(readFileSync(file));
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () =>
      new Promise((done) => {
        server.close(() => done());
        server.closeAllConnections();
      }),
  };
}

const quiet = [
  '--no-sandbox',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** WebGPU on SwiftShader, which is what a machine without a GPU has. */
export const withWebGpu: readonly string[] = [
  '--enable-unsafe-webgpu',
  '--use-webgpu-adapter=swiftshader',
  // for speed alone: with it SwiftShader compiles our kernels four times faster
  '--disable-dawn-features=use_vulkan_zero_initialize_workgroup_memory_extension',
];

/** A browser, by default one without an adapter for WebGPU. */
export function launch(args: readonly string[] = []) {
  mkdirSync(pictures, { recursive: true });
  return chromium.launch({ executablePath: browserPath.path!, headless: true, args: [...quiet, ...args] });
}

/** Loaded, kept for offline, with memory that threads share: the page loads a second time by itself for that. */
export async function ready(page: Page): Promise<void> {
  await page.waitForFunction(() => crossOriginIsolated && document.querySelector('#start:enabled, #run:not([hidden])'));
}

/** Waits until the run stands so: `Training`, `Done`, … */
export async function waitFor(page: Page, phase: string): Promise<void> {
  await page.waitForFunction((wanted) => document.getElementById('run-title')!.textContent === wanted, phase);
}

/** The page's worker. */
export function workerOf(page: Page): Worker {
  return page.workers().find((each) => each.url().startsWith('blob:'))!;
}

/** Types records into the form, and settings by the ids of their fields; waits until the run can be started. */
export async function fill(page: Page, records: readonly object[], settings: Record<string, string>): Promise<void> {
  await page.check('input[name=data][value=paste]');
  await page.click('summary');
  for (const [id, value] of Object.entries(settings))
    if (id === 'backend' || id === 'method') await page.selectOption(`#${id}`, value);
    else await page.fill(`#${id}`, value);
  await page.fill('#paste', records.map((record) => JSON.stringify(record)).join('\n'));
  await page.waitForFunction(() => document.getElementById('data-facts')!.textContent?.includes('pasted text'));
  await page.waitForSelector('#start:enabled');
}

/** The longest that anything on the page may take on a machine that is busy with other things, milliseconds. */
const patience = 240_000;

/** Opens the page and notes what must not happen: requests to other sites, and errors on the console (refusals of the policy are there). */
export async function open(
  context: BrowserContext,
  origin: string,
  path = '/',
): Promise<{ page: Page; wrong: string[] }> {
  context.setDefaultTimeout(patience);
  const page = await context.newPage();
  const wrong: string[] = [];
  page.on('console', (message) => {
    if (message.type() === 'error') wrong.push(message.text());
  });
  page.on('pageerror', (error) => wrong.push(String(error)));
  context.on('request', (request) => {
    const url = request.url();
    if (!url.startsWith(origin) && !/^(blob|data):/.test(url)) wrong.push(`request to ${url}`);
  });
  await page.goto(origin + path);
  return { page, wrong };
}

/** Takes a picture of the whole page. */
export async function picture(page: Page, name: string): Promise<void> {
  await page.screenshot({ path: join(pictures, `${name}.png`), fullPage: true, timeout: patience });
}

/** The losses that the last whole checkpoint knows, read from the page's private storage. */
export function savedLosses(page: Page): Promise<number[]> {
  return page.evaluate(async () => {
    type Folder = FileSystemDirectoryHandle & { keys(): AsyncIterable<string> };
    const root = await navigator.storage.getDirectory();
    const folder = (await (await root.getDirectoryHandle('run')).getDirectoryHandle('checkpoints')) as Folder;
    let losses: number[] = [];
    for await (const name of folder.keys()) {
      const files = (await folder.getDirectoryHandle(name)) as Folder;
      const names = await Array.fromAsync(files.keys());
      if (!names.includes('whole.json')) continue;
      const file = await files.getFileHandle('trainer_state.json');
      const state = JSON.parse(await (await file.getFile()).text()) as { history: { loss: number }[] };
      if (state.history.length > losses.length) losses = state.history.map(({ loss }) => loss);
    }
    return losses;
  });
}
