/**
 * Packs what a machine with a GPU needs into .gpu/cuda/ (about 30 MB, ignored by git): a stripped Node, the addon, the kernels, the conformance
 * suite and the measurements as single files, and run.sh. Nothing has to be installed there but the NVIDIA driver and cuBLASLt.
 *   node scripts/gpu/pack.mjs [extra-entry.ts …]     LOWRANK_CUDA_ARCHS=sm_90a packs fewer targets
 * Copy .gpu/cuda/ over, run `bash .gpu/cuda/run.sh`, bring back .gpu/cuda/out/, then `node scripts/gpu/collect.mjs FOLDER`.
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, '../..');
const out = join(root, '.gpu/cuda');
const native = join(root, 'packages/backend-cuda');
mkdirSync(out, { recursive: true });

execFileSync(process.execPath, [join(native, 'scripts/build.mjs')], { stdio: 'inherit' });
rmSync(join(out, 'binaries'), { recursive: true, force: true });
mkdirSync(join(out, 'binaries/kernels'), { recursive: true });
cpSync(join(native, 'build/lowrank_cuda.node'), join(out, 'binaries/lowrank_cuda.node'));
for (const file of readdirSync(join(native, 'build/kernels')).filter((f) => !f.endsWith('.hash')))
  cpSync(join(native, 'build/kernels', file), join(out, 'binaries/kernels', file));

// The binary of Node that runs this, stripped: 127 MB become 27.
const packed = join(out, 'node.xz');
if (!existsSync(packed) || statSync(packed).mtimeMs < statSync(process.execPath).mtimeMs) {
  const plain = join(out, 'node');
  cpSync(process.execPath, plain, { dereference: true });
  chmodSync(plain, 0o755);
  execFileSync('strip', [plain]);
  execFileSync('xz', ['-f', '-T0', '-6', plain], { stdio: 'inherit' });
}

const entries = [
  join(here, 'conformance.ts'),
  join(native, 'bench/selfcheck.ts'),
  ...process.argv.slice(2).map((f) => resolve(f)),
];
for (const entry of entries)
  await build({
    entryPoints: [entry],
    outfile: join(out, `${basename(entry).replace(/\.[mc]?[tj]s$/, '')}.mjs`),
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node24',
    conditions: ['source'],
    alias: { vitest: join(here, 'harness.ts') },
    banner: {
      js: "import { createRequire as makeRequire } from 'node:module'; const require = makeRequire(import.meta.url);",
    },
    external: ['webgpu'],
    // Test files are imported for what they do.
    ignoreAnnotations: true,
    logLevel: 'warning',
  });
for (const file of ['run.sh', 'stamp.mjs']) cpSync(join(here, file), join(out, file));
writeFileSync(join(out, 'commit'), execFileSync('git', ['rev-parse', 'HEAD'], { cwd: root }));

const size = (folder) =>
  readdirSync(folder, { withFileTypes: true }).reduce(
    (sum, f) =>
      f.name === 'out'
        ? sum
        : sum + (f.isDirectory() ? size(join(folder, f.name)) : statSync(join(folder, f.name)).size),
    0,
  );
const megabytes = size(out) / 2 ** 20;
console.log(`.gpu/cuda/: ${megabytes.toFixed(1)} MiB: ${entries.map((e) => basename(e)).join(', ')}`);
if (megabytes > 60) {
  console.error('pack: .gpu/cuda/ is over 60 MiB');
  process.exitCode = 1;
}
