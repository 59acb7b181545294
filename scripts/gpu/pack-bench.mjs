/**
 * Adds the benchmark to what pack.mjs packed into .gpu/cuda/: the harness and its jobs as single files, Dawn for WebGPU, and what the Python
 * peers lack on the machine (bitsandbytes for its CUDA, Liger).
 *   node scripts/gpu/pack.mjs && node scripts/gpu/pack-bench.mjs [--peers]
 * Copy .gpu/cuda/ over (with bundled/ of the repository above or beside it), run `bash .gpu/cuda/bench.sh`, and bring back out/bench/.
 * --peers downloads two wheels; LOWRANK_PYTHON_SITE names a site.tar.xz of one's own instead.
 */
import { execFileSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build } from 'esbuild';

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, '../..');
const out = join(root, '.gpu/cuda');
const benchmarks = join(root, 'benchmarks');
if (!existsSync(join(out, 'node.xz'))) {
  console.error('pack-bench: .gpu/cuda/ holds no Node yet. Run: node scripts/gpu/pack.mjs');
  process.exit(1);
}

// Everything but Node and the kernels goes into one archive: single files repeat each other.
const stage = mkdtempSync(join(tmpdir(), 'lowrank-pack-'));
const entries = {
  bench: 'src/main.ts',
  'step-job': 'src/jobs/step-job.ts',
  'load-job': 'src/jobs/load-job.ts',
  'quality-job': 'src/jobs/quality-job.ts',
};
for (const [name, source] of Object.entries(entries))
  await build({
    entryPoints: [join(benchmarks, source)],
    outfile: join(stage, `${name}.mjs`),
    bundle: true,
    minifySyntax: true,
    minifyWhitespace: true,
    format: 'esm',
    platform: 'node',
    target: 'node24',
    conditions: ['source'],
    // other JavaScript libraries are found where they are installed
    external: ['@jax-js/*', '@tensorflow/*', 'onnxruntime-web', 'vitest'],
    banner: {
      js: "import { createRequire as makeRequire } from 'node:module'; const require = makeRequire(import.meta.url);",
    },
    logLevel: 'warning',
  });

// Commit and versions: no repository is there to ask.
const { sources } = await import(pathToFileURL(join(benchmarks, 'src/environment.ts')).href);
writeFileSync(join(stage, 'facts.json'), JSON.stringify(sources()));

const from = createRequire(join(root, 'packages/cli/package.json'));
const uplot = dirname(dirname(from.resolve('uplot')));
for (const file of [
  'package.json',
  'dist/uPlot.cjs.js',
  'dist/uPlot.esm.js',
  'dist/uPlot.iife.min.js',
  'dist/uPlot.min.css',
])
  cpSync(join(uplot, file), join(stage, 'node_modules/uplot', file));

const webgpu = dirname(createRequire(join(root, 'packages/backend-webgpu/package.json')).resolve('webgpu'));
const library = join('dist', `${process.platform}-${process.arch}`, 'dawn.node');
for (const file of ['package.json', 'index.js', library])
  cpSync(join(webgpu, file), join(stage, 'node_modules/webgpu', file));
execFileSync('strip', ['--strip-unneeded', join(stage, 'node_modules/webgpu', library)]);
cpSync(join(benchmarks, 'peers/peft_step.py'), join(stage, 'peft_step.py'));
const { commit } = JSON.parse(readFileSync(join(stage, 'facts.json'), 'utf8'));
execFileSync('tar', ['cJf', join(out, 'bench.tar.xz'), '-C', stage, '.']);
rmSync(stage, { recursive: true });
cpSync(join(here, 'bench.sh'), join(out, 'bench.sh'));

const site = join(out, 'site.tar.xz');
if (process.env.LOWRANK_PYTHON_SITE) cpSync(process.env.LOWRANK_PYTHON_SITE, site);
else if (process.argv.includes('--peers') && !existsSync(site)) {
  const peers = mkdtempSync(join(tmpdir(), 'lowrank-pack-'));
  const platforms = ['manylinux_2_28_x86_64', 'manylinux_2_24_x86_64', 'manylinux2014_x86_64', 'any'].flatMap((p) => [
    '--platform',
    p,
  ]);
  const pip = [
    '-m',
    'pip',
    'download',
    '-q',
    '--no-deps',
    '--only-binary=:all:',
    '--python-version',
    '3.12',
    ...platforms,
  ];
  execFileSync('python3', [...pip, '-d', join(peers, 'wheels'), 'bitsandbytes', 'liger-kernel'], { stdio: 'inherit' });
  mkdirSync(join(peers, 'site'));
  for (const wheel of globSync(join(peers, 'wheels/*.whl')))
    execFileSync('python3', ['-m', 'zipfile', '-e', wheel, join(peers, 'site')]);
  // of its libraries, those for the machine's CUDA
  for (const library of globSync(join(peers, 'site/bitsandbytes/libbitsandbytes_*')))
    if (!/_(cuda130|cpu)\./.test(library)) rmSync(library);
  execFileSync('tar', ['cJf', site, '-C', join(peers, 'site'), '.']);
  rmSync(peers, { recursive: true });
}

const megabytes = (path) => (existsSync(path) ? (statSync(path).size / 2 ** 20).toFixed(1) : '0');
const all = globSync(join(out, '**/*')).filter((f) => statSync(f).isFile() && !f.includes('/out/'));
const total = all.reduce((sum, f) => sum + statSync(f).size, 0) / 2 ** 20;
console.log(
  `.gpu/cuda/: ${total.toFixed(1)} MiB, of these Node ${megabytes(join(out, 'node.xz'))}, the harness with Dawn ${megabytes(join(out, 'bench.tar.xz'))}, Python ${megabytes(site)}; commit ${commit}`,
);
