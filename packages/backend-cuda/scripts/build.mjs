// Builds the addon (g++, or $CXX) and the kernels (nvcc, or $NVCC) into build/. Outputs are kept by the hash of what went into them.
//   node scripts/build.mjs [--addon] [--kernels] [--force]      LOWRANK_CUDA_ARCHS=sm_90a,compute_90 builds fewer targets
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { generate } from './generate.mjs';

const run = promisify(execFile);
const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const kernels = join(root, '../../kernels');
/** `--out FOLDER` builds elsewhere. */
const outFlag = process.argv.indexOf('--out');
const out = outFlag > 0 ? resolve(process.argv[outFlag + 1]) : join(root, 'build');
const generated = join(out, 'generated');
const flags = new Set(process.argv.slice(2));
const all = !flags.has('--addon') && !flags.has('--kernels');

/** Every target that is shipped; the last is PTX for GPUs that come later. */
const defaultTargets = ['sm_80', 'sm_89', 'sm_90a', 'sm_100', 'compute_90'];

function hashOf(paths, salt) {
  const hash = createHash('sha256').update(salt);
  for (const path of paths) hash.update(path.slice(root.length - 30)).update(readFileSync(path));
  return hash.digest('hex');
}

/** Runs `make` unless `output` was made from the same inputs before. */
async function cached(output, inputs, salt, make) {
  const stamp = `${output}.hash`;
  const hash = hashOf(inputs, salt);
  if (!flags.has('--force') && existsSync(output) && existsSync(stamp) && readFileSync(stamp, 'utf8') === hash)
    return false;
  await make();
  writeFileSync(stamp, hash);
  return true;
}

async function buildAddon() {
  const require = createRequire(import.meta.url);
  const includes = [
    dirname(require.resolve('node-addon-api/package.json')),
    join(dirname(require.resolve('node-api-headers/package.json')), 'include'),
  ];
  const native = join(root, 'native');
  const sources = readdirSync(native)
    .sort()
    .map((f) => join(native, f));
  const units = sources.filter((f) => f.endsWith('.cc'));
  const output = join(out, 'lowrank_cuda.node');
  const cxx = process.env.CXX ?? 'g++';
  const args = [
    '-std=c++17',
    '-O2',
    '-fPIC',
    '-fvisibility=hidden',
    '-Wall',
    '-Wextra',
    ...includes.map((i) => `-I${i}`),
  ];
  const made = await cached(output, sources, `${cxx} ${args.slice(0, 6)}`, async () => {
    const objects = join(out, 'objects');
    mkdirSync(objects, { recursive: true });
    await pool(units, async (unit) =>
      run(cxx, [...args, '-c', unit, '-o', join(objects, `${basename(unit, '.cc')}.o`)]),
    );
    await run(cxx, [
      '-shared',
      ...units.map((u) => join(objects, `${basename(u, '.cc')}.o`)),
      '-o',
      output,
      '-ldl',
      '-pthread',
      '-static-libstdc++',
      '-static-libgcc',
      '-s',
    ]);
  });
  console.log(`addon: ${made ? 'built' : 'up to date'} (${output})`);
}

async function pool(items, work) {
  const queue = [...items];
  const lanes = Math.max(1, Math.min(availableParallelism(), Number(process.env.LOWRANK_BUILD_JOBS ?? 2)));
  await Promise.all(
    Array.from({ length: lanes }, async () => {
      for (let item = queue.shift(); item !== undefined; item = queue.shift()) await work(item);
    }),
  );
}

/** The .cu files of all ops, and the names of their kernels. */
export function kernelSources() {
  const folders = readdirSync(kernels, { withFileTypes: true }).filter(
    (d) => d.isDirectory() && d.name !== 'common' && d.name !== 'node_modules',
  );
  return folders.flatMap((d) =>
    readdirSync(join(kernels, d.name))
      .filter((f) => f.endsWith('.cu'))
      .sort()
      .map((f) => {
        const path = join(kernels, d.name, f);
        return { path, module: basename(f, '.cu'), names: kernelNames(readFileSync(path, 'utf8')) };
      }),
  );
}

/** Names after KERNEL, and those that a macro named in capitals pastes (its uses are expanded by hand in `// kernels:` comments). */
function kernelNames(text) {
  const names = new Set();
  for (const m of text.matchAll(/^KERNEL\s+(?:__launch_bounds__\([^)]*\)\s+)?([a-z]\w*)\(/gm)) names.add(m[1]);
  for (const m of text.matchAll(/^\/\/ kernels: (.*)$/gm)) for (const n of m[1].trim().split(/\s+/)) names.add(n);
  return [...names];
}

/** The headers that a source includes, directly or through others. */
function includesOf(path, seen = new Set()) {
  for (const [, name] of readFileSync(path, 'utf8').matchAll(/^#include "([^"]+)"/gm)) {
    const found = [join(dirname(path), name), join(generated, name)].find((f) => existsSync(f));
    if (found && !seen.has(found)) {
      seen.add(found);
      includesOf(found, seen);
    }
  }
  return [...seen].sort();
}

async function buildKernels() {
  generate(generated);
  const targets = (process.env.LOWRANK_CUDA_ARCHS ?? defaultTargets.join(','))
    .split(',')
    .map((t) => t.trim())
    .filter(Boolean);
  const codes = targets.map((t) => {
    const arch = t.replace(/^sm_/, 'compute_');
    return `-gencode=arch=${arch},code=${t}`;
  });
  const nvcc = process.env.NVCC ?? 'nvcc';
  const args = [
    '-fatbin',
    '-std=c++17',
    '-O3',
    '-lineinfo',
    '-Xcudafe',
    '--diag_suppress=177',
    `-I${generated}`,
    `-I${join(kernels, 'common/cuda')}`,
    ...codes,
  ];
  const folder = join(out, 'kernels');
  mkdirSync(folder, { recursive: true });
  const sources = kernelSources();
  let built = 0;
  await pool(sources, async ({ path, module }) => {
    const output = join(folder, `${module}.fatbin`);
    const used = includesOf(path);
    const made = await cached(
      output,
      [path, ...used],
      `${nvcc} ${args.filter((a) => !a.startsWith('-I'))}`,
      async () => {
        const extra = flags.has('--verbose') ? ['-Xptxas', '-v'] : [];
        const { stderr } = await run(nvcc, [...args, ...extra, path, '-o', output], { maxBuffer: 1 << 26 });
        if (stderr.trim()) console.log(`${module}:\n${stderr.trim()}`);
      },
    );
    if (made) built++;
  });
  const manifest = {
    targets,
    kernels: Object.fromEntries(sources.flatMap(({ module, names }) => names.map((n) => [n, module])).sort()),
  };
  writeFileSync(join(folder, 'kernels.json'), `${JSON.stringify(manifest, null, 1)}\n`);
  console.log(
    `kernels: ${built} of ${sources.length} modules built for ${targets.join(', ')}, ${Object.keys(manifest.kernels).length} kernels`,
  );
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  mkdirSync(out, { recursive: true });
  try {
    if (all || flags.has('--addon')) await buildAddon();
    if (all || flags.has('--kernels')) await buildKernels();
  } catch (error) {
    console.error(error.stderr || error.message);
    process.exitCode = 1;
  }
}
