import type { Options } from 'tsup';

/** What every package's build shares: one ESM file an entry, its types and a source map. */
const base = {
  format: 'esm',
  target: 'es2024',
  platform: 'neutral',
  dts: true,
  sourcemap: true,
  clean: true,
  treeshake: true,
  removeNodeProtocol: false,
} satisfies Options;

export default base;
