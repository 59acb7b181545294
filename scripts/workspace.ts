import { execFile, spawn } from 'node:child_process';
import { existsSync, globSync, readFileSync } from 'node:fs';
import { join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

/** The repository's folder. */
export const root = fileURLToPath(new URL('..', import.meta.url));

type Dependencies = Record<string, string>;
export type Exports = Record<string, string | Record<string, string>>;

export interface Manifest {
  name: string;
  version: string;
  private?: boolean;
  type?: string;
  license?: string;
  sideEffects?: unknown;
  engines?: Record<string, string>;
  files?: string[];
  exports?: Exports;
  publishConfig?: { exports?: Exports };
  dependencies?: Dependencies;
  devDependencies?: Dependencies;
  peerDependencies?: Dependencies;
  optionalDependencies?: Dependencies;
}

/** A member of the workspace. */
export interface Member {
  /** Its short name in the import rules: `tensor`, `cli`, `examples`. */
  readonly room: string;
  /** Relative to the repository, with `/`. */
  readonly dir: string;
  readonly manifest: Manifest;
}

export function readJson<T>(path: string): T {
  return JSON.parse(readFileSync(path, 'utf8')) as T;
}

/** Every member that `pnpm-workspace.yaml` names. */
export function members(top: string = root): Member[] {
  const yaml = readFileSync(join(top, 'pnpm-workspace.yaml'), 'utf8');
  const list = /^packages:\n((?: {2}- .*\n)+)/m.exec(yaml)?.[1] ?? '';
  const patterns = list.split('\n').flatMap((line) => line.replace(/^ {2}- /, '').replaceAll("'", '') || []);
  return patterns
    .flatMap((pattern) => globSync(join(top, pattern)))
    .filter((path) => existsSync(join(path, 'package.json')))
    .map((path) => {
      const dir = relative(top, path).split(sep).join('/');
      const [first = '', second] = dir.split('/');
      return {
        room: first === 'packages' ? second! : first,
        dir,
        manifest: readJson<Manifest>(join(path, 'package.json')),
      };
    })
    .sort((a, b) => (a.dir < b.dir ? -1 : 1));
}

/** Members that are published. */
export function published(): Member[] {
  return members().filter((member) => !member.manifest.private);
}

/** Files that git tracks or would track, relative to the repository. */
export async function ownFiles(): Promise<string[]> {
  const args = ['ls-files', '--cached', '--others', '--exclude-standard'];
  const { stdout } = await promisify(execFile)('git', args, { cwd: root, maxBuffer: 1 << 26 });
  return [...new Set(stdout.split('\n'))].filter((file) => file && existsSync(join(root, file)));
}

export interface Outcome {
  code: number;
  /** stdout and stderr, in the order they came. */
  output: string;
}

/** Runs a command with the workspace's tools first on PATH and keeps its output. */
export function execute(
  command: string,
  args: readonly string[],
  options: { cwd?: string; env?: NodeJS.ProcessEnv } = {},
) {
  const env = {
    ...process.env,
    NO_COLOR: '1',
    ...options.env,
    PATH: `${join(root, 'node_modules/.bin')}:${process.env.PATH}`,
  };
  return new Promise<Outcome>((done, fail) => {
    const child = spawn(command, args, { cwd: options.cwd ?? root, env, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    const keep = (chunk: Buffer) => {
      output += chunk;
    };
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    child.on('error', fail);
    child.on('close', (code) => done({ code: code ?? 1, output }));
  });
}

/** pnpm at the version that the root manifest pins. */
export function pnpm(args: readonly string[], options: { cwd?: string } = {}): Promise<Outcome> {
  const { packageManager } = readJson<{ packageManager: string }>(join(root, 'package.json'));
  return execute('npx', ['-y', packageManager, ...args], options);
}
