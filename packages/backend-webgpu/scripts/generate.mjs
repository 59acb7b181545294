// Gathers every kernels/**/*.wgsl into src/generated/wgsl.ts, as text by path. The text is not changed: what is tested is what ships.
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, '../../../kernels');
const files = readdirSync(root, { recursive: true, encoding: 'utf8' })
  .map((path) => path.replaceAll('\\', '/'))
  .filter((path) => path.endsWith('.wgsl') && !path.includes('node_modules'))
  .sort();
const out = join(here, '../src/generated/wgsl.ts');
const rows = files.map(
  (path) => `  ${JSON.stringify(path)}: ${JSON.stringify(readFileSync(join(root, path), 'utf8'))},\n`,
);
mkdirSync(dirname(out), { recursive: true });
writeFileSync(
  out,
  `// Made by packages/backend-webgpu/scripts/generate.mjs from kernels/; do not edit.\nexport const wgsl: Readonly<Record<string, string>> = {\n${rows.join('')}};\n`,
);
console.log(`backend-webgpu: ${files.length} shader files`);
