/**
 * Packs the benchmark for a machine with a GPU where nothing is installed but the driver, cuBLASLt and PyTorch, and whence nothing can be reached:
 *   node scripts/gpu/pack.mjs && node scripts/gpu/pack-bench.mjs [--peers [--no-unsloth]] [--vulkan] [--models FOLDER]
 * .gpu/bench/ is what every run needs: Node, the addon and its kernels, harness, jobs, the command line and the comparison with PEFT, Dawn,
 * GSM8K, with --peers bitsandbytes for the machine's CUDA and Liger, with --vulkan a Vulkan loader. What is large beside it (with --peers Unsloth
 * and what it imports, with --models SmolLM2-135M-Instruct as ../shared/models/get --hf leaves it) lies in .gpu/bench-1, -2, … in pieces, for
 * carriers with a limit. Copy each piece's folder over and run `bash bench.sh receive` beside it; then `bash .gpu/bench/bench.sh PART …`.
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
import { parseArgs } from 'node:util';
import { build } from 'esbuild';

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, '../..');
const cuda = join(root, '.gpu/cuda');
const out = join(root, '.gpu/bench');
const benchmarks = join(root, 'benchmarks');
const { values: asked } = parseArgs({
  allowNegative: true,
  options: {
    peers: { type: 'boolean', default: false },
    unsloth: { type: 'boolean', default: true },
    vulkan: { type: 'boolean', default: false },
    models: { type: 'string' },
    /** Bytes of a piece. */
    piece: { type: 'string', default: String(36 * 2 ** 20) },
  },
});
if (!existsSync(join(cuda, 'node.xz'))) {
  console.error('pack-bench: .gpu/cuda/ holds no Node and no kernels yet. Run: node scripts/gpu/pack.mjs');
  process.exit(1);
}
const scratch = mkdtempSync(join(tmpdir(), 'lowrank-pack-'));
const archive = (file, folder) => execFileSync('tar', ['cJf', file, '-C', folder, '.']);
// what is not asked for again stays as it is packed
if (asked.peers || asked.models)
  for (const old of globSync(join(root, '.gpu/bench-*'))) rmSync(old, { recursive: true });
mkdirSync(out, { recursive: true });

/** Harness, jobs, kernels, Dawn and data in one archive: single files repeat each other. */
async function packHarness() {
  const stage = join(scratch, 'bench');
  const entries = {
    bench: join(benchmarks, 'src/main.ts'),
    'step-job': join(benchmarks, 'src/jobs/step-job.ts'),
    'load-job': join(benchmarks, 'src/jobs/load-job.ts'),
    'quality-job': join(benchmarks, 'src/jobs/quality-job.ts'),
    'bench-models': join(here, 'bench-models.ts'),
    lowrank: join(root, 'packages/cli/src/main.ts'),
    'same-numbers': join(here, 'same-numbers.ts'),
  };
  for (const [name, source] of Object.entries(entries))
    await build({
      entryPoints: [source],
      outfile: join(stage, `${name}.mjs`),
      bundle: true,
      minifySyntax: true,
      minifyWhitespace: true,
      format: 'esm',
      platform: 'node',
      target: 'node24',
      conditions: ['source'],
      external: ['webgpu', 'vitest'],
      banner: {
        js: "import { createRequire as makeRequire } from 'node:module'; const require = makeRequire(import.meta.url);",
      },
      logLevel: 'warning',
    });
  // commit and versions: no repository is there to ask
  const { environment } = await import(pathToFileURL(join(benchmarks, 'src/environment.ts')).href);
  const { commit, packages } = environment();
  const { node: _, ...versions } = packages;
  writeFileSync(join(stage, 'facts.json'), JSON.stringify({ commit, packages: versions }));

  const webgpu = dirname(createRequire(join(root, 'packages/backend-webgpu/package.json')).resolve('webgpu'));
  const library = join('dist', `${process.platform}-${process.arch}`, 'dawn.node');
  for (const file of ['package.json', 'index.js', library])
    cpSync(join(webgpu, file), join(stage, 'node_modules/webgpu', file));
  // the command line's report holds it
  const uplot = dirname(createRequire(join(root, 'packages/cli/package.json')).resolve('uplot/package.json'));
  for (const file of ['package.json', 'dist'])
    cpSync(join(uplot, file), join(stage, 'node_modules/uplot', file), { recursive: true });
  execFileSync('strip', ['--strip-unneeded', join(stage, 'node_modules/webgpu', library)]);

  cpSync(join(cuda, 'binaries'), join(stage, 'binaries'), { recursive: true });
  cpSync(join(benchmarks, 'peers/peft_step.py'), join(stage, 'peft_step.py'));
  for (const file of ['smollm2_train.py', 'smollm2.py', 'common.py'])
    cpSync(join(root, 'scripts/reference', file), join(stage, file));
  const hashes = 'fixtures/nf4/smollm2-hashes.json';
  cpSync(join(root, hashes), join(stage, hashes));
  const gsm8k = join(process.env.LOWRANK_SHARED ?? join(root, '../shared'), 'data/gsm8k/train.jsonl');
  if (existsSync(gsm8k)) cpSync(gsm8k, join(stage, 'shared/data/gsm8k/train.jsonl'));
  else console.error(`pack-bench: no GSM8K at ${gsm8k} (LOWRANK_SHARED names another folder): it is left out`);
  archive(join(out, 'bench.tar.xz'), stage);
  return commit;
}

/** Wheels of the machine's Python, unpacked; files of other CUDA versions and of parts that nothing imports left out. */
function site(name, packages, unwanted) {
  const wheels = join(scratch, `${name}-wheels`);
  const folder = join(scratch, name);
  const platforms = ['manylinux_2_28_x86_64', 'manylinux_2_24_x86_64', 'manylinux_2_17_x86_64', 'manylinux2014_x86_64'];
  execFileSync(
    'python3',
    [
      ...['-m', 'pip', 'download', '-q', '--no-deps', '--only-binary=:all:', '--python-version', '3.12'],
      ...[...platforms, 'any'].flatMap((p) => ['--platform', p]),
      ...['-d', wheels],
      ...packages,
    ],
    { stdio: ['ignore', 'inherit', 'ignore'] },
  );
  mkdirSync(folder);
  for (const wheel of globSync(join(wheels, '*.whl'))) execFileSync('python3', ['-m', 'zipfile', '-e', wheel, folder]);
  for (const path of globSync(unwanted.map((u) => join(folder, u)))) rmSync(path, { recursive: true });
  return folder;
}

const unsloth = [
  ...['unsloth', 'unsloth_zoo', 'trl==1.15.0', 'datasets<5', 'dill', 'multiprocess', 'tyro', 'docstring_parser'],
  ...['typeguard', 'hf_transfer', 'cut_cross_entropy', 'torchao', 'diffusers', 'msgspec', 'json5', 'nest-asyncio'],
  ...['structlog', 'pydantic', 'pydantic_core', 'annotated_types', 'typing_inspection', 'certifi'],
];

/** SmolLM2-135M-Instruct: the GGUF that everything else is made of, and the small files of its Hugging Face form. */
function packModel(folder, to) {
  mkdirSync(join(to, 'models/hf'), { recursive: true });
  const gguf = 'SmolLM2-135M-Instruct.Q4_1.gguf';
  cpSync(join(folder, gguf), join(to, 'models', gguf));
  for (const file of ['config.json', 'generation_config.json', 'tokenizer.json', 'tokenizer_config.json'])
    cpSync(join(folder, 'SmolLM2-135M-Instruct', file), join(to, 'models/hf', file));
}

const commit = await packHarness();
cpSync(join(cuda, 'node.xz'), join(out, 'node.xz'));
cpSync(join(here, 'bench.sh'), join(out, 'bench.sh'));
if (asked.vulkan) {
  mkdirSync(join(out, 'gl'), { recursive: true });
  execFileSync('apt-get', ['download', 'libvulkan1'], { cwd: join(out, 'gl'), stdio: 'ignore' });
}
const more = join(scratch, 'more');
mkdirSync(more);
if (asked.peers) {
  const ours = site('site', ['bitsandbytes', 'liger-kernel'], ['bitsandbytes/libbitsandbytes_!(cuda130|cpu).so']);
  archive(join(out, 'site.tar.xz'), ours);
  if (asked.unsloth)
    cpSync(site('unsloth', unsloth, ['studio', 'unsloth_cli', 'test']), join(more, 'site'), { recursive: true });
}
if (asked.models) packModel(asked.models, more);
const folders = globSync(join(root, '.gpu/bench-*'));
if (globSync(join(more, '*')).length) {
  const all = join(scratch, 'more.tar.xz');
  execFileSync('tar', ['cf', all, '-I', 'xz -T0 -6', '-C', more, '.']);
  const bytes = readFileSync(all);
  const count = Math.ceil(bytes.length / Number(asked.piece));
  for (let i = 0; i < count; i++) {
    const folder = join(root, `.gpu/bench-${i + 1}`);
    mkdirSync(folder);
    const [from, to] = [i, i + 1].map((k) => Math.floor((k * bytes.length) / count));
    writeFileSync(join(folder, `piece-${i + 1}-of-${count}`), bytes.subarray(from, to));
    cpSync(join(here, 'bench.sh'), join(folder, 'bench.sh'));
    folders.push(folder);
  }
}
rmSync(scratch, { recursive: true });

for (const folder of [out, ...folders]) {
  const files = globSync(join(folder, '**/*')).filter((f) => statSync(f).isFile());
  const parts = files.map((f) => `${f.slice(folder.length + 1)} ${(statSync(f).size / 2 ** 20).toFixed(1)}`);
  const total = files.reduce((sum, f) => sum + statSync(f).size, 0) / 2 ** 20;
  console.log(`${folder.slice(root.length + 1)}/: ${total.toFixed(1)} MiB: ${parts.join(', ')}`);
}
console.log(`commit ${commit}`);
