import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type Backend, LowrankError, type Memory, nearest, replacing } from '@lowrank/tensor';
import { bytes } from '../report/format.ts';

export interface BackendOptions {
  readonly threads?: number | undefined;
  /** The most device memory that may be taken, in bytes. */
  readonly memory?: number | undefined;
}

/** A backend that is here, or why it is not. */
export interface Probe {
  readonly name: string;
  readonly available: boolean;
  /** The device, or the reason. */
  readonly facts: string;
  readonly features: readonly string[];
  /** Numbers that bound what it takes, by name. */
  readonly limits: Readonly<Record<string, number>>;
  /** Kernels that the device refused, and its words. */
  readonly refused: readonly string[];
}

type Opener = (options: BackendOptions) => Promise<Backend>;

/** Software stands in where no GPU is; the CPU backend is faster than that. */
const software = /swiftshader|llvmpipe|lavapipe|software|basic render/i;

const openers: Readonly<Record<string, Opener>> = {
  cuda: async () => {
    const { available, cudaBackend } = await import('@lowrank/backend-cuda');
    const found = available();
    if (!found.ok) throw new LowrankError('cuda', 'no device to run on', found.reason);
    if (!found.blas.ok) throw new LowrankError('cuda', 'cuBLASLt is not there', found.blas.reason);
    return cudaBackend();
  },
  webgpu: async () => {
    const { webgpuBackend } = await import('@lowrank/backend-webgpu');
    return webgpuBackend();
  },
  cpu: async ({ threads }) => {
    const { cpuBackend } = await import('@lowrank/backend-cpu');
    return cpuBackend(threads === undefined ? {} : { threads });
  },
};

const order = ['cuda', 'webgpu', 'cpu'];

function reasonOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  const text = code === 'ERR_MODULE_NOT_FOUND' ? `not installed (${message.split('\n')[0]})` : message;
  return text.replace(/\s+/g, ' ');
}

/** Devices that a GPU of any maker has on Linux. Without one, WebGPU would only write warnings of its own. */
function hopeless(name: string): string | undefined {
  if (name !== 'webgpu' || process.platform !== 'linux') return undefined;
  return ['/dev/dri', '/dev/nvidia0', '/dev/dxg'].some(existsSync)
    ? undefined
    : 'no GPU is here (neither /dev/dri nor /dev/nvidia0)';
}

/** Why `auto` passes a backend over. */
function unfit(backend: Backend): string | undefined {
  const adapter = (backend as { adapter?: { fallback?: boolean; name?: string } }).adapter;
  if (!adapter?.fallback && !software.test(adapter?.name ?? '')) return undefined;
  return `only a software adapter (${adapter?.name}); the CPU backend is faster`;
}

/** Opens the backend of a name, the best there is (`auto`), or the one that a module makes. The caller closes it. */
export async function openBackend(name = 'auto', options: BackendOptions = {}): Promise<Backend> {
  return limited(await open(name, options), options.memory);
}

async function open(name: string, options: BackendOptions): Promise<Backend> {
  if (name === 'auto') {
    const reasons: string[] = [];
    for (const candidate of order) {
      try {
        const none = hopeless(candidate);
        if (none) throw new Error(none);
        const backend = await openers[candidate]!(options);
        const reason = unfit(backend);
        if (!reason) return backend;
        reasons.push(`${candidate}: ${reason}`);
        await backend.close();
      } catch (error) {
        reasons.push(`${candidate}: ${reasonOf(error)}`);
      }
    }
    throw new LowrankError('backend', 'none can run here', reasons.join('; '));
  }
  const opener = openers[name];
  if (opener) {
    try {
      return await opener(options);
    } catch (cause) {
      throw new LowrankError('backend', `${name} is not there`, reasonOf(cause), `There: ${await others(name)}`, {
        cause,
      });
    }
  }
  if (/[./\\]/.test(name)) return fromModule(name);
  throw new LowrankError(
    'backend',
    'unknown backend',
    name,
    `Did you mean ${nearest(name, ['auto', ...order], 1)[0]}? Known: auto, ${order.join(', ')}, or the path of a module`,
  );
}

async function others(name: string): Promise<string> {
  const found = (await probeBackends()).filter((p) => p.available && p.name !== name);
  return found.map((p) => `${p.name} (${p.facts})`).join(', ') || 'none';
}

/** A backend of one's own: the module's default export makes it. */
async function fromModule(path: string): Promise<Backend> {
  const file = path.startsWith('file:') ? path : resolve(path);
  if (!path.startsWith('file:') && !existsSync(file))
    throw new LowrankError('backend', 'the module is not there', file);
  let make: unknown;
  try {
    make = ((await import(path.startsWith('file:') ? path : pathToFileURL(file).href)) as { default?: unknown })
      .default;
  } catch (cause) {
    throw new LowrankError('backend', 'the module does not load', `${path}: ${reasonOf(cause)}`, '', { cause });
  }
  if (typeof make !== 'function')
    throw new LowrankError(
      'backend',
      'the module must have a default export that makes a backend',
      path,
      'export default async () => backend',
    );
  const backend = (await (make as () => unknown)()) as Backend | undefined;
  const missing = ['name', 'caps', 'memory', 'primitives', 'fused', 'synchronize', 'close'].filter(
    (key) => backend?.[key as keyof Backend] === undefined,
  );
  if (missing.length)
    throw new LowrankError(
      'backend',
      'what the module made is no backend',
      `${path}: it lacks ${missing.join(', ')}`,
      'See the contract of @lowrank/tensor',
    );
  return backend!;
}

/** All backends by name: what they run on, or why they do not run. */
export async function probeBackends(): Promise<Probe[]> {
  const out: Probe[] = [];
  for (const name of order) {
    try {
      // Whoever names a driver may have one in software.
      const reason = process.env.VK_ICD_FILENAMES ? undefined : hopeless(name);
      if (reason) throw new Error(reason);
      const backend = await openers[name]!({});
      const { adapter } = backend as { adapter?: { limits?: Readonly<Record<string, number>> } };
      out.push({
        name,
        available: true,
        facts: backend.caps.device,
        features: backend.caps.features,
        limits: adapter?.limits ?? (backend.caps.limits as Readonly<Record<string, number>>),
        refused: (backend.refusals?.() ?? []).map(({ variant, reason }) => `${variant}: ${reason}`),
      });
      await backend.close();
    } catch (error) {
      out.push({ name, available: false, facts: reasonOf(error), features: [], limits: {}, refused: [] });
    }
  }
  return out;
}

/** NCCL, which groups of GPUs need: its version and file, or why it is not there. Undefined where CUDA is not. */
export async function probeNccl(): Promise<string | undefined> {
  const found = await import('@lowrank/backend-cuda').then(
    ({ available }) => available(),
    () => undefined,
  );
  if (!found?.ok) return undefined;
  return found.nccl.ok ? `${found.nccl.version} (${found.nccl.path})` : `not here: ${found.nccl.reason}`;
}

/** A backend that gives out no more than `limit` bytes. */
function limited(backend: Backend, limit: number | undefined): Backend {
  if (limit === undefined) return backend;
  const { memory } = backend;
  const capped: Memory = {
    alignment: memory.alignment,
    pooling: memory.pooling,
    allocate: (byteLength) => {
      const taken = memory.reservedBytes();
      if (taken + byteLength > limit)
        throw new LowrankError(
          'memory',
          'the limit is reached',
          `${bytes(taken)} taken, ${bytes(byteLength)} asked, ${bytes(limit)} allowed`,
          'Raise --memory',
        );
      return memory.allocate(byteLength);
    },
    release: (buffer) => memory.release(buffer),
    write: (buffer, offset, data) => memory.write(buffer, offset, data),
    read: (buffer, offset, length) => memory.read(buffer, offset, length),
    copy: (from, fromOffset, to, toOffset, length) => memory.copy(from, fromOffset, to, toOffset, length),
    reservedBytes: () => memory.reservedBytes(),
    ...(memory.offload ? { offload: memory.offload } : {}),
  };
  const { limits } = backend.caps;
  return replacing(backend, {
    memory: capped,
    caps: { ...backend.caps, limits: { ...limits, memoryBytes: Math.min(limit, limits.memoryBytes ?? limit) } },
  });
}
