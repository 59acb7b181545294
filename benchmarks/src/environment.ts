import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism, cpus, loadavg, release, totalmem, type } from 'node:os';
import { dirname, join } from 'node:path';
import type { Backend } from '@lowrank/tensor';
import { z } from 'zod';
import type { ContenderFacts, Environment } from './record.ts';

const here = import.meta.dirname;

function output(command: string, ...args: string[]): string | undefined {
  try {
    return execFileSync(command, args, { cwd: here, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    return undefined;
  }
}

function headCommit(): string | null {
  const head = output('git', 'rev-parse', '--short=12', 'HEAD');
  if (!head) return null;
  return output('git', 'status', '--porcelain', '--untracked-files=no') ? `${head}+` : head;
}

const resolver = createRequire(import.meta.url);

/** Version of a package that this one sees; undefined where it is not installed. */
function packageVersion(name: string): string | undefined {
  for (const folder of resolver.resolve.paths(name) ?? []) {
    const file = join(folder, name, 'package.json');
    if (existsSync(file)) return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
  }
  return undefined;
}

/** Commit and versions of sources that were packed into single files: no repository and no packages are around those. */
const packedFacts = z.strictObject({ commit: z.string().nullable(), packages: z.record(z.string(), z.string()) });

/** Commit and versions of the packages, of this repository or of what was packed. */
function sources(): z.infer<typeof packedFacts> {
  const packed = join(here, 'facts.json');
  if (existsSync(packed)) return packedFacts.parse(JSON.parse(readFileSync(packed, 'utf8')));
  const manifest = JSON.parse(readFileSync(join(dirname(here), 'package.json'), 'utf8')) as {
    dependencies: Record<string, string>;
  };
  const ours = Object.keys(manifest.dependencies).filter((name) => name.startsWith('@lowrank/'));
  const versions = ours.flatMap((name) => {
    const version = packageVersion(name);
    return version ? [[name, version] as const] : [];
  });
  return { commit: headCommit(), packages: Object.fromEntries(versions) };
}

let fixed: Omit<Environment, 'load' | 'othersShare'> | undefined;
/** Before this program does anything itself. */
const loadBefore = loadavg()[0]!;

/** Facts about machine and sources, as every record carries them; what others do on the machine aside. */
export function environment(): Omit<Environment, 'othersShare'> {
  if (!fixed) {
    const { commit, packages } = sources();
    fixed = {
      commit,
      packages: { node: process.versions.node, ...packages },
      os: `${type()} ${release()}`,
      cpu: cpus()[0]?.model.trim() ?? 'unknown',
      cores: availableParallelism(),
      memoryBytes: totalmem(),
    };
  }
  return { ...fixed, load: loadBefore };
}

let nvidia: string | null | undefined;

/** Version of the NVIDIA driver, where a device of theirs is what runs. */
function driverOf(device: string): string | null {
  if (!/nvidia|geforce|tesla|quadro|\b[ahbl]\d{2,3}\b/i.test(device)) return null;
  nvidia ??= output('nvidia-smi', '--query-gpu=driver_version', '--format=csv,noheader')?.split('\n')[0] ?? null;
  return nvidia;
}

/** Is a device a program on the CPU that stands in for a GPU? */
export const isSoftware = (device: string) => /swiftshader|llvmpipe|lavapipe|softpipe|warp\b/i.test(device);

export function factsOf(backend: Backend, name = backend.name): ContenderFacts {
  const { device, features } = backend.caps;
  return { name, kind: 'backend', device, driver: driverOf(device), features: [...features] };
}
