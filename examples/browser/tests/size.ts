/** What of the page has to come over the network, without the model. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { brotliCompressSync, gzipSync } from 'node:zlib';
import { pictures } from './site.ts';

export interface Size {
  readonly files: number;
  readonly bytes: number;
  readonly gzip: number;
  readonly brotli: number;
}

/** Sums over scripts (WebAssembly and WGSL are in them), styles and pages, each compressed by itself. */
export function measure(site: string): Size {
  const names = readdirSync(site, { recursive: true, encoding: 'utf8' }).filter((name) =>
    /\.(js|css|wasm)$|^index\.html$/.test(name),
  );
  const files = names.map((name) => readFileSync(join(site, name)));
  const sum = (of: (file: Buffer) => number) => files.reduce((total, file) => total + of(file), 0);
  return {
    files: files.length,
    bytes: sum((file) => file.length),
    gzip: sum((file) => gzipSync(file, { level: 9 }).length),
    brotli: sum((file) => brotliCompressSync(file).length),
  };
}

/** Most that the page may take by gzip. */
export const most = 400_000;

/** test-results/browser/size.jsonl, a line in the form of benchmarks/src/gpu-lines.ts; and a line of the log. */
export function record(size: Size): void {
  mkdirSync(pictures, { recursive: true });
  const made = {
    ...{
      kind: 'size',
      name: 'The training tab, scripts with WebAssembly and WGSL, without model',
      ...size,
      goal: most,
    },
    ...{
      gpu: `${cpus()[0]!.model.trim()}, ${cpus().length} cores`,
      driver: 'none',
      command: 'npx vitest run --root examples/browser',
    },
    ...{ commit: commit(), at: new Date().toISOString() },
  };
  writeFileSync(join(pictures, 'size.jsonl'), `${JSON.stringify(made)}\n`);
  console.log(
    `page without model: ${size.bytes} bytes in ${size.files} files, ${size.gzip} by gzip, ${size.brotli} by brotli`,
  );
}

/** Of the sources, with `+` where files differ from it. */
function commit(): string {
  const git = (...args: string[]) => {
    try {
      return execFileSync('git', args, { cwd: import.meta.dirname, encoding: 'utf8' }).trim();
    } catch {
      return '';
    }
  };
  const differs = git('status', '--porcelain', '--untracked-files=no') !== '';
  return (git('rev-parse', 'HEAD') || 'no repository') + (differs ? '+' : '');
}
