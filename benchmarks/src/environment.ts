import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism, cpus, loadavg, release, totalmem, type } from 'node:os';
import { dirname, join } from 'node:path';
import type { Backend } from '@lowrank/tensor';
import type { ContenderFacts, Environment } from './record.ts';

const here = import.meta.dirname;

function output(command: string, ...args: string[]): string | undefined {
  try {
    return execFileSync(command, args, { cwd: here, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    return undefined;
  }
}

function commit(): string | null {
  const head = output('git', 'rev-parse', '--short=12', 'HEAD');
  if (!head) return null;
  return output('git', 'status', '--porcelain', '--untracked-files=no') ? `${head}+` : head;
}

const resolver = createRequire(import.meta.url);

/** Version of a package that this one sees; undefined where it is not installed. */
export function packageVersion(name: string): string | undefined {
  for (const folder of resolver.resolve.paths(name) ?? []) {
    const file = join(folder, name, 'package.json');
    if (existsSync(file)) return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
  }
  return undefined;
}

let fixed: Omit<Environment, 'load'> | undefined;

/** Facts about machine and sources, as every record carries them. */
export function environment(): Environment {
  if (!fixed) {
    const manifest = JSON.parse(readFileSync(join(dirname(here), 'package.json'), 'utf8')) as {
      dependencies: Record<string, string>;
    };
    const ours = Object.keys(manifest.dependencies).filter((name) => name.startsWith('@lowrank/'));
    const versions = ours.flatMap((name) => {
      const version = packageVersion(name);
      return version ? [[name, version] as const] : [];
    });
    fixed = {
      commit: commit(),
      packages: { node: process.versions.node, ...Object.fromEntries(versions) },
      os: `${type()} ${release()}`,
      cpu: cpus()[0]?.model.trim() ?? 'unknown',
      cores: availableParallelism(),
      memoryBytes: totalmem(),
    };
  }
  return { ...fixed, load: loadavg()[0]! };
}

let nvidia: string | null | undefined;

/** Version of the NVIDIA driver, where a device of theirs is what runs. */
function driverOf(device: string): string | null {
  if (!/nvidia|geforce|tesla|quadro|\b[ahbl]\d{2,3}\b/i.test(device)) return null;
  nvidia ??= output('nvidia-smi', '--query-gpu=driver_version', '--format=csv,noheader')?.split('\n')[0] ?? null;
  return nvidia;
}

export function factsOf(backend: Backend, name = backend.name): ContenderFacts {
  const { device, features } = backend.caps;
  return { name, kind: 'backend', device, driver: driverOf(device), features: [...features] };
}
