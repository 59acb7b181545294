/**
 * Packs what a machine with a GPU needs into .gpu/cuda/ or .gpu/webgpu/ (about 30 MB, ignored by git): a stripped Node, the addon or Dawn, the
 * conformance suite and the measurements as single files, and run.sh. Nothing has to be installed there but the NVIDIA driver and cuBLASLt,
 * or a Vulkan loader and driver.
 *   node scripts/gpu/pack.mjs [cuda | webgpu] [extra-entry.ts …]     LOWRANK_CUDA_ARCHS=sm_90a packs fewer targets
 * Copy the folder over, run `bash run.sh` in it, bring back its out/, then `node scripts/gpu/collect.mjs FOLDER`.
 */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, '../..');
const words = process.argv.slice(2);
const backend = ['cuda', 'webgpu'].includes(words[0]) ? words.shift() : 'cuda';
const out = join(root, '.gpu', backend);
const own = join(root, `packages/backend-${backend}`);
mkdirSync(out, { recursive: true });
// What is packed is what the sources say now.
const { packageManager } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
execFileSync('npx', ['-y', packageManager, 'run', 'generate', '--output-logs=errors-only'], {
  cwd: root,
  stdio: ['ignore', 'ignore', 'inherit'],
});
/** Other libraries that are measured beside ours. */
const peers = join(root, 'benchmarks/peers/js');

function packCuda() {
  execFileSync(process.execPath, [join(own, 'scripts/build.mjs')], { stdio: 'inherit' });
  rmSync(join(out, 'binaries'), { recursive: true, force: true });
  mkdirSync(join(out, 'binaries/kernels'), { recursive: true });
  cpSync(join(own, 'build/lowrank_cuda.node'), join(out, 'binaries/lowrank_cuda.node'));
  for (const file of readdirSync(join(own, 'build/kernels')).filter((f) => !f.endsWith('.hash')))
    cpSync(join(own, 'build/kernels', file), join(out, 'binaries/kernels', file));
  return [join(here, 'conformance.ts'), join(own, 'bench/selfcheck.ts')];
}

/** The npm package `webgpu` for this platform alone, its binary stripped and compressed; run.sh unpacks it. */
function packWebGpu() {
  const from = join(own, 'node_modules/webgpu');
  const to = join(out, 'node_modules/webgpu');
  const binary = join(to, 'dist/linux-x64/dawn.node');
  mkdirSync(dirname(binary), { recursive: true });
  for (const file of ['package.json', 'index.js']) cpSync(join(from, file), join(to, file), { dereference: true });
  if (!existsSync(`${binary}.xz`)) {
    cpSync(join(from, 'dist/linux-x64/dawn.node'), binary, { dereference: true });
    compress(binary);
  }
  rmSync(binary, { force: true }); // a run leaves it unpacked
  if (!existsSync(join(peers, 'node_modules')))
    execFileSync('npm', ['install', '--prefix', peers, '--no-audit', '--no-fund', '--ignore-scripts'], {
      stdio: 'inherit',
    });
  return [
    join(here, 'conformance-webgpu.ts'),
    join(here, 'faults-webgpu.ts'),
    join(own, 'bench/ops.ts'),
    join(own, 'bench/peers.mjs'),
    join(root, 'benchmarks/src/steps-main.ts'),
  ];
}

function compress(file) {
  chmodSync(file, 0o755);
  execFileSync('strip', [file]);
  execFileSync('xz', ['-f', '-T0', '-6', file], { stdio: 'inherit' });
}

const entries = [...(backend === 'cuda' ? packCuda() : packWebGpu()), ...words.map((f) => resolve(f))];

// The binary of Node that runs this, stripped: 127 MB become 27.
const packed = join(out, 'node.xz');
if (!existsSync(packed) || statSync(packed).mtimeMs < statSync(process.execPath).mtimeMs) {
  const plain = join(out, 'node');
  cpSync(process.execPath, plain, { dereference: true });
  compress(plain);
}

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
    nodePaths: [join(peers, 'node_modules')],
    // Test files are imported for what they do.
    ignoreAnnotations: true,
    logLevel: 'warning',
  });
cpSync(join(here, backend === 'cuda' ? 'run.sh' : 'run-webgpu.sh'), join(out, 'run.sh'));
for (const file of ['stamp.mjs', 'profile-table.mjs']) cpSync(join(here, file), join(out, file));
writeFileSync(join(out, 'commit'), execFileSync('git', ['rev-parse', 'HEAD'], { cwd: root }));

const size = (folder) =>
  readdirSync(folder, { withFileTypes: true }).reduce(
    (sum, f) =>
      f.name === 'out'
        ? sum
        : sum + (f.isDirectory() ? size(join(folder, f.name)) : statSync(join(folder, f.name)).size),
    0,
  );
// gl/ is the packer's own: the .deb files of a Vulkan loader, for machines that have only the driver.
const megabytes = size(out) / 2 ** 20;
console.log(`.gpu/${backend}/: ${megabytes.toFixed(1)} MiB: ${entries.map((e) => basename(e)).join(', ')}`);
const most = 38; // with the repository's own files it travels in 64 MiB
if (megabytes > most) {
  console.error(`pack: .gpu/${backend}/ is over ${most} MiB`);
  process.exitCode = 1;
}
