import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type Backend, type Fallback, LowrankError, nearest } from '@lowrank/tensor';

export interface OpenOptions {
  readonly threads?: number | undefined;
}

/** Why WebGPU cannot find anything here; Dawn would take seconds to say so. */
export function gpuMissing(): string | undefined {
  if (process.platform !== 'linux' || process.env.VK_ICD_FILENAMES) return undefined;
  if (['/dev/dri', '/dev/nvidia0', '/dev/dxg'].some(existsSync)) return undefined;
  return 'no GPU is here (neither /dev/dri nor /dev/nvidia0), and VK_ICD_FILENAMES names no software driver';
}

const openers: Readonly<Record<string, (options: OpenOptions) => Promise<Backend>>> = {
  cpu: async ({ threads }) => {
    const { cpuBackend } = await import('@lowrank/backend-cpu');
    return cpuBackend(threads === undefined ? {} : { threads });
  },
  webgpu: async () => {
    const missing = gpuMissing();
    if (missing) throw new Error(missing);
    return (await import('@lowrank/backend-webgpu')).webgpuBackend();
  },
  cuda: async () => {
    const { available, cudaBackend } = await import('@lowrank/backend-cuda');
    const found = available();
    if (!found.ok) throw new Error(found.reason);
    return cudaBackend();
  },
};

export const backendNames = Object.keys(openers);

/** A module of the user's own, rather than a name. */
const isPath = (name: string) => /[./\\]/.test(name);

/** Checks names before anything runs. Throws with the nearest names. */
export function checkBackendNames(names: readonly string[]): void {
  for (const name of names)
    if (!isPath(name) && !openers[name])
      throw new LowrankError(
        'bench',
        'unknown backend',
        name,
        `Did you mean ${nearest(name, backendNames, 1)[0]}? Known: ${backendNames.join(', ')}, or the path of a module (./mine.js)`,
      );
}

/** Opens a backend by name, or from a module whose default export makes one. The caller closes it. */
export async function openBackend(name: string, options: OpenOptions = {}): Promise<Backend> {
  const open = openers[name];
  if (open) return open(options);
  const file = resolve(name);
  if (!existsSync(file)) throw new LowrankError('bench', 'the module is not there', file);
  const { default: make } = (await import(pathToFileURL(file).href)) as { default?: unknown };
  if (typeof make !== 'function')
    throw new LowrankError('bench', 'the module must have a default export that makes a backend', name);
  const backend = (await make()) as Backend;
  const missing = (['name', 'caps', 'memory', 'primitives', 'fused', 'synchronize', 'close'] as const).filter(
    (key) => backend?.[key] === undefined,
  );
  if (missing.length)
    throw new LowrankError('bench', 'what the module made is no backend', `${name}: it lacks ${missing.join(', ')}`);
  return backend;
}

/** Why something did not work, on one line. */
export function reasonOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.replace(/\s+/g, ' ').trim() || 'no reason given';
}

/** A line of `explain()` in words. */
export const fallbackNote = ({ op, reason }: Fallback): string =>
  `${op} ${op.startsWith('variant ') ? 'is not used' : 'ran as primitives'}: ${reason}`;
