/** For tests that open a built page: a plain static server, and a browser. */
import { existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname, join } from 'node:path';
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core';

const types: Readonly<Record<string, string>> = {
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.json': 'application/json',
};

export interface Site {
  /** Without a slash at the end. */
  readonly origin: string;
  close(): Promise<void>;
}

/** Serves a folder as any static host would, with the type of each file and the headers given. */
export async function serve(folder: string, headers: Readonly<Record<string, string>> = {}): Promise<Site> {
  const server = createServer((request, response) => {
    const path = new URL(request.url ?? '/', 'http://localhost').pathname;
    const file = join(folder, path.endsWith('/') ? `${path}index.html` : path);
    if (!existsSync(file)) return void response.writeHead(404).end();
    for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
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

/**
 * Headless Chromium with WebGPU on SwiftShader, which is what a machine without a GPU has. `executablePath` is what `chromiumPath` finds.
 * One switch is for speed alone: with it SwiftShader compiles our kernels several times faster.
 */
export function launch(executablePath: string): Promise<Browser> {
  const args = [
    '--no-sandbox',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--enable-unsafe-webgpu',
    '--use-webgpu-adapter=swiftshader',
    '--disable-dawn-features=use_vulkan_zero_initialize_workgroup_memory_extension',
  ];
  return chromium.launch({ executablePath, headless: true, args });
}

/**
 * Opens a page and notes what must not happen: requests to sites other than those of `origins`, errors on the console (refusals of a
 * policy are there), errors that nobody caught.
 */
export async function open(
  context: BrowserContext,
  url: string,
  origins: readonly string[] = [new URL(url).origin],
): Promise<{ page: Page; wrong: string[] }> {
  const page = await context.newPage();
  const wrong: string[] = [];
  page.on('console', (message) => {
    if (message.type() === 'error') wrong.push(message.text());
  });
  page.on('pageerror', (error) => wrong.push(String(error)));
  context.on('request', (request) => {
    const asked = request.url();
    if (!/^(blob|data):/.test(asked) && !origins.some((origin) => asked.startsWith(`${origin}/`)))
      wrong.push(`request to ${asked}`);
  });
  await page.goto(url);
  return { page, wrong };
}
