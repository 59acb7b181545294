import { type ChildProcess, spawn } from 'node:child_process';
import { cpSync, globSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { snippets } from '../testing/snippets.ts';
import type { Site } from '../testing/web.ts';
import { execute, root } from '../workspace.ts';
import type { Packed } from './pack.ts';
import { install } from './project.ts';

/** The files that a page of the documentation shows whole, marked `file=NAME`, by name. */
function filesOf(markdown: string): Map<string, string> {
  const files = new Map<string, string>();
  for (const language of ['json', 'ts', 'html', 'css'])
    for (const { words, code } of snippets(markdown, language)) {
      const name = words.find((word) => word.startsWith('file='))?.slice('file='.length);
      if (name) files.set(name, code);
    }
  return files;
}

/** Writes the app of docs/guide/browser.md into an empty folder, installs the packed packages and builds it as its reader would. */
export async function buildGuide(folder: string, packed: readonly Packed[]): Promise<string[]> {
  const files = filesOf(readFileSync(join(root, 'docs/guide/browser.md'), 'utf8'));
  for (const [name, text] of files) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
  await install(folder, JSON.parse(files.get('package.json')!), packed);
  await build(folder);
  return [...files.keys()];
}

/** Builds the page of examples/browser on the packed packages instead of the sources; gives the folder of the site. */
export async function buildExample(folder: string, packed: readonly Packed[]): Promise<string> {
  const app = join(folder, 'examples/browser');
  mkdirSync(app, { recursive: true });
  symlinkSync(join(root, 'bundled'), join(folder, 'bundled'));
  const from = join(root, 'examples/browser');
  for (const name of [...globSync('*.html', { cwd: from }), 'vite.config.ts', 'src'])
    cpSync(join(from, name), join(app, name), { recursive: true });
  const manifest = JSON.parse(readFileSync(join(from, 'package.json'), 'utf8'));
  const { vite } = manifest.devDependencies;
  manifest.scripts = { build: 'vite build' };
  await install(app, { ...manifest, devDependencies: { vite } }, packed);
  await build(app);
  return join(app, 'dist');
}

/** `npm run build`. Tests set NODE_ENV, which Vite would go by. */
async function build(folder: string): Promise<void> {
  const { code, output } = await execute('npm', ['run', 'build'], { cwd: folder, env: { NODE_ENV: 'production' } });
  if (code !== 0) throw new Error(`the build failed:\n${output}`);
}

/** `vite preview` on a free port, once it answers. */
export async function preview(folder: string): Promise<Site> {
  const port = await freePort();
  const vite = join(folder, 'node_modules/vite/bin/vite.js');
  const args = [vite, 'preview', '--host', '127.0.0.1', '--port', String(port), '--strictPort'];
  const child: ChildProcess = spawn(process.execPath, args, { cwd: folder, stdio: 'ignore' });
  const origin = `http://127.0.0.1:${port}`;
  const answers = () =>
    fetch(origin).then(
      (response) => response.ok,
      () => false,
    );
  for (let tries = 0; !(await answers()); tries++) {
    if (child.exitCode !== null || tries > 300) throw new Error('vite preview does not answer');
    await new Promise((done) => setTimeout(done, 100));
  }
  return {
    origin,
    close: async () => {
      const ended = new Promise((done) => child.once('exit', done));
      child.kill();
      await ended;
    },
  };
}

function freePort(): Promise<number> {
  return new Promise((done) => {
    const server = createServer();
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => done(port));
    });
  });
}
