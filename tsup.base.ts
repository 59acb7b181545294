import { readFileSync } from 'node:fs';
import type { Options } from 'tsup';

type Manifest = { exports?: Record<string, string | { source?: string; import?: string }> };

/**
 * What every package's build shares: one ESM file with types for each entry of `exports` in the package.json of the folder
 * that tsup runs in, so that an entry point is named in one place. A package adds what is no entry point (workers) itself.
 */
const base = {
  entry: entries(JSON.parse(readFileSync('package.json', 'utf8')) as Manifest),
  format: 'esm',
  target: 'es2024',
  platform: 'neutral',
  dts: true,
  sourcemap: true,
  clean: true,
  treeshake: true,
  // Node built-ins (behind `node` entries only) stay imports, with their prefix.
  external: [/^node:/],
  removeNodeProtocol: false,
} satisfies Options;

/** `{ import: './dist/node.js', source: './src/node.ts' }` → `{ node: 'src/node.ts' }` */
function entries({ exports = {} }: Manifest): Record<string, string> {
  return Object.fromEntries(
    Object.values(exports).flatMap((target) => {
      if (typeof target === 'string' || !target.source || !target.import) return [];
      return [[target.import.replace(/^\.\/dist\/|\.js$/g, ''), target.source.replace(/^\.\//, '')]];
    }),
  );
}

export default base;
