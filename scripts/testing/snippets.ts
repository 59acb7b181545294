import { existsSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execute, root } from '../workspace.ts';

/** A fenced block of a Markdown page. */
export interface Snippet {
  /** What follows the language: `run`, `needs=webgpu`. */
  readonly words: readonly string[];
  readonly code: string;
  /** Line of the page where the code begins, from 1. */
  readonly line: number;
}

/** The fenced blocks of a page in a language, in order. */
export function snippets(markdown: string, language: string): Snippet[] {
  const found: Snippet[] = [];
  for (const match of markdown.matchAll(/^```(\w+)([^\n]*)\n([\s\S]*?)^```$/gm)) {
    const [, name, info = '', code = ''] = match;
    if (name !== language) continue;
    const line = markdown.slice(0, match.index).split('\n').length + 1;
    found.push({ words: info.trim().split(/\s+/).filter(Boolean), code, line });
  }
  return found;
}

/** Why a snippet cannot run on this machine (`needs=cuda`, `needs=webgpu`), or undefined when it can. */
export function cannotRun({ words }: Snippet): string | undefined {
  const needs = words.find((word) => word.startsWith('needs='))?.slice('needs='.length);
  if (needs === undefined) return undefined;
  if (needs === 'cuda') return existsSync('/dev/nvidiactl') ? undefined : 'no CUDA device on this machine';
  if (needs === 'webgpu') {
    if (process.env.REQUIRE_WEBGPU === '1' || process.env.VK_ICD_FILENAMES || existsSync('/dev/dri')) return undefined;
    return 'no WebGPU adapter on this machine (VK_ICD_FILENAMES names a software one)';
  }
  throw new Error(`snippet: unknown need "${needs}". Known: cuda, webgpu`);
}

/** A new folder outside the repository, with `bundled/` (model and instruction set) in it; gone at the end of the `using` scope. */
export function workFolder(): Disposable & { readonly path: string } {
  const path = mkdtempSync(join(tmpdir(), 'lowrank-'));
  symlinkSync(join(root, 'bundled'), join(path, 'bundled'));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

/** Writes the code to `file` and runs it in `cwd` with Node, which strips its types. Throws with the output when it fails. */
export async function runSnippet(snippet: Snippet, file: string, cwd: string, nodeArgs: string[] = []): Promise<void> {
  writeFileSync(file, snippet.code);
  const { code, output } = await execute('node', [...nodeArgs, file], { cwd });
  if (code !== 0) throw new Error(`the snippet ended with exit code ${code}:\n${output}`);
}
