import { LowrankError } from '@lowrank/kernels';
import type { Layout, MatrixTile, TileShape } from './gpu/variants.ts';
import { nodeProcess } from './node-process.ts';

/** Optional features that kernels have variants for. */
export type WebGpuFeature = 'shader-f16' | 'subgroups' | 'chromium-experimental-subgroup-matrix' | 'timestamp-query';
const known: readonly WebGpuFeature[] = [
  'shader-f16',
  'subgroups',
  'chromium-experimental-subgroup-matrix',
  'timestamp-query',
];

/** What was measured once on an adapter; plain data, to be kept by the caller under the adapter's name. */
export interface Tuning {
  /** The portable tile of large products. */
  readonly large: TileShape;
  /** On subgroup matrices, the tile of each layout; absent where the device has none. */
  readonly matrix?: { readonly [L in Layout]?: MatrixTile };
}

export interface WebGpuOptions {
  /** Where adapters come from; `navigator.gpu`, or the package `webgpu` in Node, where absent. */
  readonly gpu?: GPU;
  readonly adapter?: GPUAdapter;
  readonly powerPreference?: GPUPowerPreference;
  /**
   * `auto`: every feature and the largest limits that the adapter offers. `portable`: no feature, and the limits that every adapter has.
   * A list: these features where they are offered, and the largest limits.
   */
  readonly features?: 'auto' | 'portable' | readonly WebGpuFeature[];
  /** A device of one's own; then `adapter` and `features` are not used. */
  readonly device?: GPUDevice;
  /** What `tune` found on this adapter before. */
  readonly tuning?: Tuning;
  /** Options of Dawn in Node, for instance `['backend=vulkan', 'enable-dawn-features=…']`. */
  readonly dawn?: readonly string[];
}

/** What is known of an adapter. */
export interface AdapterFacts {
  readonly name: string;
  readonly vendor: string;
  readonly architecture: string;
  readonly fallback: boolean;
  readonly features: readonly string[];
  readonly limits: Readonly<Record<string, number>>;
}

const wanted = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxComputeWorkgroupStorageSize',
  'maxComputeInvocationsPerWorkgroup',
  'maxComputeWorkgroupSizeX',
  'maxComputeWorkgroupSizeY',
  'maxComputeWorkgroupSizeZ',
  'maxStorageBuffersPerShaderStage',
  'maxComputeWorkgroupsPerDimension',
] as const satisfies readonly (keyof GPUSupportedLimits)[];

async function findGpu(options: WebGpuOptions): Promise<GPU> {
  const own = options.gpu ?? (typeof navigator === 'undefined' ? undefined : navigator.gpu);
  if (own) return own;
  const inNode = nodeProcess()?.versions?.node !== undefined;
  if (!inNode)
    throw new LowrankError(
      'webgpu',
      'this browser has no WebGPU',
      typeof isSecureContext !== 'undefined' && !isSecureContext
        ? 'the page is not a secure context'
        : 'navigator.gpu is missing',
      'Use https or localhost, a recent browser, or the CPU backend',
    );
  try {
    const { dawn } = await import('./dawn.ts');
    return await dawn(options.dawn);
  } catch (cause) {
    throw new LowrankError(
      'webgpu',
      'the package webgpu does not load',
      cause instanceof Error ? cause.message : String(cause),
      'Install it: npm install webgpu',
      { cause },
    );
  }
}

/** The adapter to use. Throws a LowrankError that says why there is none. */
export async function findAdapter(options: WebGpuOptions): Promise<GPUAdapter> {
  if (options.adapter) return options.adapter;
  const gpu = await findGpu(options);
  const adapter = await gpu.requestAdapter({ powerPreference: options.powerPreference ?? 'high-performance' });
  if (!adapter)
    throw new LowrankError(
      'webgpu',
      'no adapter',
      'requestAdapter gave none',
      'A driver may be missing, or WebGPU may be switched off; without a GPU, SwiftShader serves for tests',
    );
  return adapter;
}

/** Facts of an adapter or of a device opened on it. */
export function adapterFacts(
  info: GPUAdapterInfo,
  { features, limits }: Pick<GPUAdapter, 'features' | 'limits'>,
): AdapterFacts {
  return {
    name:
      info.description ||
      info.device ||
      [info.vendor, info.architecture].filter(Boolean).join(' ') ||
      'unknown adapter',
    vendor: info.vendor,
    architecture: info.architecture,
    fallback: info.isFallbackAdapter ?? false,
    features: [...features].sort(),
    limits: Object.fromEntries(wanted.map((name) => [name, limits[name] as number])),
  };
}

/** Opens a device with what `options.features` says. */
export async function openDevice(
  adapter: GPUAdapter,
  features: WebGpuOptions['features'] = 'auto',
): Promise<GPUDevice> {
  const portable = features === 'portable';
  const asked = portable ? [] : features === 'auto' ? known : features;
  const requiredFeatures = asked.filter((f) => adapter.features.has(f)) as GPUFeatureName[];
  const requiredLimits = portable
    ? {}
    : Object.fromEntries(wanted.map((name) => [name, adapter.limits[name] as number]));
  const device = await adapter.requestDevice({ label: 'lowrank', requiredFeatures, requiredLimits });
  if (typeof navigator === 'undefined' || !navigator.gpu) {
    const { destroyOnExit } = await import('./dawn.ts');
    destroyOnExit(device);
  }
  return device;
}
