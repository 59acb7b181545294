// Builds the driver without a GPU: fake_cuda.cc and fake_nccl.cc with every kernel compiled for the processor. Kept by the hash of its sources.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { kernelSources } from '../../scripts/build.mjs';
import { generate } from '../../scripts/generate.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, '../..');
const common = join(root, '../../kernels/common/cuda');
const out = join(root, 'build/emulator');

/** Path of the built library. Flags: `-fsanitize=address` and the like. */
export function buildEmulator(flags = []) {
  generate(join(root, 'build/generated'));
  mkdirSync(out, { recursive: true });
  const sources = kernelSources().filter(({ path }) => !readFileSync(path, 'utf8').startsWith('// hopper'));
  const output = join(out, flags.length ? 'libfake_cuda_checked.so' : 'libfake_cuda.so');
  const hash = createHash('sha256').update(flags.join(' '));
  const inputs = [
    ...sources.map((s) => s.path),
    ...readdirSync(common).map((f) => join(common, f)),
    ...readdirSync(join(root, 'build/generated')).map((f) => join(root, 'build/generated', f)),
    ...readdirSync(here).map((f) => join(here, f)),
  ].sort();
  for (const path of inputs) hash.update(readFileSync(path));
  const digest = hash.digest('hex');
  writeBinaries(sources);
  if (existsSync(output) && existsSync(`${output}.hash`) && readFileSync(`${output}.hash`, 'utf8') === digest)
    return output;
  const units = sources.map(({ path, module, names }) => {
    const unit = join(out, `${module}.cc`);
    writeFileSync(unit, `#include "${path}"\n${names.map((n) => `EMU_REGISTER(${n});\n`).join('')}`);
    return unit;
  });
  const cxx = process.env.CXX ?? 'g++';
  const args = [
    '-std=c++20',
    '-O2',
    '-fPIC',
    '-w',
    '-ffp-contract=off',
    '-DLOWRANK_EMULATE',
    `-I${here}`,
    `-I${common}`,
    `-I${join(root, 'build/generated')}`,
    ...flags,
  ];
  const objects = [...units, ...['emulate.cc', 'fake_cuda.cc', 'fake_nccl.cc'].map((f) => join(here, f))].map(
    (unit) => {
      const object = join(out, `${unit.split('/').pop()}${flags.length ? '.checked' : ''}.o`);
      const stamp = createHash('sha256')
        .update(args.join(' '))
        .update(readFileSync(unit))
        .update(unit.startsWith(out) ? readFileSync(sources.find((s) => unit.endsWith(`/${s.module}.cc`)).path) : '');
      for (const f of inputs.filter((p) => p.startsWith(common) || p.endsWith('.h') || p.endsWith('.inc')))
        stamp.update(readFileSync(f));
      const hex = stamp.digest('hex');
      if (!(existsSync(object) && existsSync(`${object}.hash`) && readFileSync(`${object}.hash`, 'utf8') === hex)) {
        execFileSync(cxx, [...args, '-c', unit, '-o', object], { stdio: 'inherit' });
        writeFileSync(`${object}.hash`, hex);
      }
      return object;
    },
  );
  execFileSync(cxx, ['-shared', ...flags, ...objects, '-o', output], { stdio: 'inherit' });
  writeFileSync(`${output}.hash`, digest);
  return output;
}

/** What the package reads where binaries lie: the addon, a manifest, and images of sixteen bytes, since this driver takes kernels by name. */
function writeBinaries(sources) {
  const kernels = join(out, 'binaries/kernels');
  mkdirSync(kernels, { recursive: true });
  rmSync(join(out, 'binaries/lowrank_cuda.node'), { force: true });
  symlinkSync(join(root, 'build/lowrank_cuda.node'), join(out, 'binaries/lowrank_cuda.node'));
  const image = new Uint8Array(16);
  new DataView(image.buffer).setUint32(0, 0xba55ed50, true);
  for (const { module } of sources) writeFileSync(join(kernels, `${module}.fatbin`), image);
  const names = Object.fromEntries(sources.flatMap(({ module, names }) => names.map((n) => [n, module])));
  writeFileSync(join(kernels, 'kernels.json'), JSON.stringify({ targets: ['emulator'], kernels: names }));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) console.log(buildEmulator(process.argv.slice(2)));
