// Puts the built addon and kernels into build/npm/<platform>: what users of this platform install beside @lowrank/backend-cuda.
//   node scripts/build.mjs && node scripts/platform-package.mjs && npm publish build/npm/linux-x64
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const { version, license, repository } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const platform = `${process.platform}-${process.arch}`;
const name = `@lowrank/backend-cuda-${platform}`;
const folder = join(root, 'build/npm', platform);
rmSync(folder, { recursive: true, force: true });
mkdirSync(join(folder, 'kernels'), { recursive: true });
cpSync(join(root, 'build/lowrank_cuda.node'), join(folder, 'lowrank_cuda.node'));
for (const file of readdirSync(join(root, 'build/kernels')).filter((f) => !f.endsWith('.hash')))
  cpSync(join(root, 'build/kernels', file), join(folder, 'kernels', file));
writeFileSync(
  join(folder, 'package.json'),
  `${JSON.stringify({ name, version, description: `Native part of @lowrank/backend-cuda for ${platform}`, license, repository, os: [process.platform], cpu: [process.arch], files: ['lowrank_cuda.node', 'kernels'], ...(process.platform === 'linux' ? { libc: ['glibc'] } : {}) }, null, 2)}\n`,
);
writeFileSync(
  join(folder, 'README.md'),
  `# ${name}\n\nThe addon and the compiled kernels of \`@lowrank/backend-cuda\` for ${platform}. Install both.\n`,
);
console.log(`${name}@${version}: ${folder}`);
