// Builds the manifest of ops from the folders: a folder with a contract.ts is an op. Writes generated/ops.ts and generated/testing.ts.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const folders = readdirSync(root)
  .filter((f) => f !== 'common' && existsSync(join(root, f, 'contract.ts')))
  .sort();
const camel = (f) => f.replace(/-(.)/g, (_, c) => c.toUpperCase());
const pascal = (f) => camel(f).replace(/^./, (c) => c.toUpperCase());
const ops = folders.map((folder) => {
  const text = readFileSync(join(root, folder, 'contract.ts'), 'utf8');
  for (const word of [`interface ${pascal(folder)} `, `const ${camel(folder)} `, `name: '${camel(folder)}'`])
    if (!text.includes(word))
      throw new Error(`kernels/${folder}/contract.ts: expected to find "${word.trim()}". The folder names the op.`);
  return { folder, name: camel(folder), type: pascal(folder), primitive: /kind: 'primitive'/.test(text) };
});
const banner = '// Made by kernels/scripts/generate.mjs from the folders; do not edit.\n';
const union = (list) => list.map((o) => `  ${o.name}: ${o.type};\n`).join('');
const values = (list) => list.map((o) => `  ${o.name},\n`).join('');
mkdirSync(join(root, 'generated'), { recursive: true });

const primitives = ops.filter((o) => o.primitive);
const fused = ops.filter((o) => !o.primitive);
writeFileSync(
  join(root, 'generated/ops.ts'),
  `${banner}${ops.map((o) => `import { ${o.name}, type ${o.type} } from '../${o.folder}/contract.ts';\n`).join('')}
export interface PrimitiveOps {\n${union(primitives)}}\n
export interface FusedOps {\n${union(fused)}}\n
export const primitiveContracts = {\n${values(primitives)}} as const;\n
export const fusedContracts = {\n${values(fused)}} as const;\n
${ops.map((o) => `export * from '../${o.folder}/contract.ts';\n`).join('')}`,
);

const has = (file) => ops.filter((o) => existsSync(join(root, o.folder, file)));
const tested = [
  ...has('reference.ts').map((o) => `import { reference as ${o.name}Reference } from '../${o.folder}/reference.ts';\n`),
  ...has('cases.ts').map((o) => `import { cases as ${o.name}Cases } from '../${o.folder}/cases.ts';\n`),
].join('');
writeFileSync(
  join(root, 'generated/testing.ts'),
  `${banner}${tested}
export const references = {\n${has('reference.ts')
    .map((o) => `  ${o.name}: ${o.name}Reference,\n`)
    .join('')}};\n
export const cases = {\n${has('cases.ts')
    .map((o) => `  ${o.name}: ${o.name}Cases,\n`)
    .join('')}};\n`,
);
console.log(`kernels: ${primitives.length} primitives, ${fused.length} fused ops`);
