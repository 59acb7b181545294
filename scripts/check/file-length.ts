import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ownFiles, root } from '../workspace.ts';

/** Longest hand-written source file, in lines. */
const cap = 500;

const source = /\.(ts|tsx|mts|js|mjs|wgsl|cu|cuh|c|cc|cpp|h|hpp|py|sh|html|css)$/;
const recorded = /(^|\/)(fixtures|bundled|dist|generated|build)\//;

const isHandWritten = (file: string): boolean => source.test(file) && !recorded.test(file);

/** Files over the cap, as `file: lines`. */
export async function lint(): Promise<string[]> {
  const problems: string[] = [];
  for (const file of await ownFiles()) {
    if (!isHandWritten(file)) continue;
    const lines = readFileSync(join(root, file), 'utf8').trimEnd().split('\n').length;
    if (lines > cap)
      problems.push(
        `${file}:${cap}: ${lines} lines, ${cap} is the cap. Look for the noun that wants a file of its own`,
      );
  }
  return problems;
}
