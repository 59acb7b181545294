/** What of the page has to come over the network, without the model. */
import { appendFileSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
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

/** A line of test-results/browser/size.jsonl, and of the log. */
export function record(size: Size): void {
  mkdirSync(pictures, { recursive: true });
  appendFileSync(join(pictures, 'size.jsonl'), `${JSON.stringify({ date: new Date().toISOString(), ...size })}\n`);
  console.log(
    `page without model: ${size.bytes} bytes in ${size.files} files, ${size.gzip} by gzip, ${size.brotli} by brotli`,
  );
}
