// Compiles the AssemblyScript sources of kernels/ into two WebAssembly binaries (with and without relaxed SIMD) and embeds them as base64.
import { globSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import asc from 'assemblyscript/asc';

const root = join(dirname(fileURLToPath(import.meta.url)), '../../..');
const out = join(root, 'packages/backend-cpu/src/generated');

/** Every op's sources, and the runtime's exports. Helpers under common/wasm come in by import. */
const entries = globSync('kernels/*/*.as.ts', { cwd: root })
  .concat('kernels/common/wasm/runtime.as.ts')
  .map((p) => p.replaceAll('\\', '/'))
  .sort();

async function compile(features) {
  let binary;
  const { error, stderr } = await asc.main(
    [
      ...entries,
      ...[
        '--baseDir',
        root,
        '--outFile',
        'out.wasm',
        '--runtime',
        'stub',
        '--importMemory',
        '--noExportMemory',
        '--sharedMemory',
      ],
      ...['--initialMemory', '2', '--maximumMemory', '65536', '-O3', '--noAssert', '--converge'],
      ...features.flatMap((f) => ['--enable', f]),
    ],
    {
      writeFile(name, contents) {
        if (name.endsWith('.wasm')) binary = contents;
      },
    },
  );
  if (error) {
    console.error(stderr.toString());
    throw error;
  }
  return binary;
}

/** Offset of the limits flag of the imported memory: 3 (shared, with maximum); an instance without threads sets it to 1. */
function memoryFlagOffset(bytes) {
  let at = 8;
  const leb = () => {
    let value = 0;
    let shift = 0;
    let byte;
    do {
      byte = bytes[at++];
      value |= (byte & 0x7f) << shift;
      shift += 7;
    } while (byte & 0x80);
    return value >>> 0;
  };
  const skipName = () => {
    const n = leb();
    at += n;
  };
  while (at < bytes.length) {
    const id = bytes[at++];
    const size = leb();
    const end = at + size;
    if (id === 2) {
      const count = leb();
      for (let i = 0; i < count; i++) {
        skipName();
        skipName();
        const kind = bytes[at++];
        if (kind === 2) {
          if (bytes[at] !== 3) throw new Error(`memory import has limits flag ${bytes[at]}, expected 3`);
          return at;
        }
        if (kind !== 0) throw new Error(`unexpected import of kind ${kind}`);
        leb();
      }
    }
    at = end;
  }
  throw new Error('no memory import found');
}

const builds = { relaxed: ['simd', 'threads', 'relaxed-simd'], plain: ['simd', 'threads'] };
let text = '// Made by scripts/build-wasm.mjs from kernels/**/*.as.ts. Do not edit.\n\n';
text +=
  'export interface WasmBuild {\n  readonly base64: string;\n  /** Where the memory import says whether it is shared (3) or not (1). */\n  readonly memoryFlag: number;\n}\n';
for (const [name, features] of Object.entries(builds)) {
  const binary = await compile(features);
  new WebAssembly.Module(binary);
  const base64 = Buffer.from(binary).toString('base64');
  text += `\nexport const ${name}: WasmBuild = {\n  memoryFlag: ${memoryFlagOffset(binary)},\n  base64:\n    '${base64}',\n};\n`;
  console.log(`wasm ${name}: ${binary.length} bytes from ${entries.length} sources`);
}
mkdirSync(out, { recursive: true });
writeFileSync(join(out, 'wasm.ts'), text);

const worker = readFileSync(join(root, 'packages/backend-cpu/src/runtime/worker.js'), 'utf8').replace(
  'export function',
  'function',
);
writeFileSync(
  join(out, 'worker.ts'),
  `// The text of runtime/worker.js. Do not edit.\n\nexport const workerSource: string = ${JSON.stringify(worker)};\n`,
);
