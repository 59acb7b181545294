/** Other JavaScript libraries on the products of the ops suite: on one thread of WebAssembly, and on WebGPU where there is an adapter. */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { gpuMissing } from '../src/backends.ts';
import type { Contender } from '../src/ops/contender.ts';
import type { ContenderFacts } from '../src/record.ts';
import { type Ort, onnx } from './onnx.ts';
import { type Library, ProductContender, type Shape } from './product.ts';

const folder = join(import.meta.dirname, 'js');
const install = 'npm install --prefix benchmarks/peers/js';
type Device = 'wasm' | 'webgpu';

interface Finder {
  load(name: string): Promise<unknown>;
  locate(name: string): string;
}

const finder = async () => (await import(pathToFileURL(join(folder, 'load.mjs')).href)) as Finder;
const load = async <T>(name: string) => (await (await finder()).load(name)) as T;

/** WebGPU as browsers have it, for libraries that look for it there. Dawn's object must live as long as the process. */
let dawn: GPU | undefined;
async function offerGpu(): Promise<string> {
  const missing = gpuMissing();
  if (missing) throw new Error(missing);
  if (!dawn) {
    const { create, globals } = await import('webgpu');
    for (const [name, value] of Object.entries(globals))
      if (!(name in globalThis)) Object.assign(globalThis, { [name]: value });
    dawn = create(['enable-dawn-features=allow_unsafe_apis,vulkan_enable_f16_on_nvidia']);
    Object.defineProperty(navigator, 'gpu', { value: dawn, configurable: true });
  }
  const adapter = await dawn.requestAdapter({ powerPreference: 'high-performance' });
  if (!adapter) throw new Error('WebGPU finds no adapter');
  const { description, device, vendor } = adapter.info;
  return description || device || vendor || 'unknown';
}

interface Tf {
  setBackend(name: string): Promise<boolean>;
  ready(): Promise<void>;
  tensor2d(values: Float32Array, shape: Shape): TfTensor;
  transpose(t: TfTensor): TfTensor;
  matMul(a: TfTensor, b: TfTensor): TfTensor;
  tidy(f: () => TfTensor): TfTensor;
}
interface TfTensor {
  data(): Promise<Float32Array>;
  dispose(): void;
}

/** Its product with a transposed operand takes a path that is ten times slower: the weight is stored [in, out], its better form. */
async function tfjs(device: Device): Promise<Library<TfTensor>> {
  const tf = await load<Tf>('@tensorflow/tfjs-core');
  const backend = await load<{ setWasmPaths?(path: string): void }>(`@tensorflow/tfjs-backend-${device}`);
  const { locate } = await finder();
  backend.setWasmPaths?.(`${dirname(fileURLToPath(locate(`@tensorflow/tfjs-backend-${device}`)))}/`);
  if (!(await tf.setBackend(device))) throw new Error(`its backend ${device} does not start`);
  await tf.ready();
  // one engine holds both backends; one that has started is chosen before the call returns
  const here = <R>(f: () => R): R => {
    void tf.setBackend(device);
    return f();
  };
  return {
    upload: (values, shape) => here(() => tf.tensor2d(values, shape)),
    weight: (values, shape) => here(() => tf.tidy(() => tf.transpose(tf.tensor2d(values, shape)))),
    product: (x, w) => here(() => tf.matMul(x, w)),
    read: (t) => here(() => t.data()),
    settle: async () => {
      // kernels of wasm run before the call returns; webgpu's are waited for as a whole
      if (device === 'webgpu') await here(() => gpuDone(tf));
    },
    dispose: (t) => here(() => t.dispose()),
  };
}

interface TfGpu {
  readonly device: GPUDevice;
  readonly commandEncoder: unknown;
  endComputePassEncoder(): void;
  submitQueue(): void;
}

/** Submits what tfjs gathered so far, and waits for its own device. */
async function gpuDone(tf: Tf): Promise<void> {
  const gpu = (tf as unknown as { backend(): TfGpu }).backend();
  gpu.endComputePassEncoder();
  if (gpu.commandEncoder) gpu.submitQueue();
  await gpu.device.queue.onSubmittedWorkDone();
}

interface JaxArray {
  readonly ref: JaxArray;
  reshape(shape: Shape): JaxArray;
  transpose(): JaxArray;
  data(): Promise<Float32Array>;
  blockUntilReady(): Promise<JaxArray>;
  dispose(): void;
}
interface Jax {
  init(device: Device): Promise<readonly string[]>;
  defaultDevice(device: Device): void;
  jit<F>(f: F): F;
  readonly numpy: { array(values: Float32Array): JaxArray; matmul(a: JaxArray, b: JaxArray): JaxArray };
}

async function jaxJs(device: Device): Promise<Library<JaxArray>> {
  const jax = await load<Jax>('@jax-js/jax');
  if (!(await jax.init(device)).includes(device)) throw new Error(`its backend ${device} does not start`);
  const np = jax.numpy;
  const upload = (values: Float32Array, shape: Shape) => {
    jax.defaultDevice(device);
    return np.array(values).reshape(shape);
  };
  // calls consume what they are given; `.ref` keeps it
  const multiply = jax.jit((x: JaxArray, w: JaxArray) => np.matmul(x, w.transpose()));
  return {
    upload,
    weight: upload,
    product: (x, w) => multiply(x.ref, w.ref),
    read: (t) => t.ref.data(),
    settle: async (t) => {
      await t.blockUntilReady();
    },
    dispose: (t) => t.dispose(),
  };
}

async function ort(device: Device): Promise<Library<unknown>> {
  const library = await load<Ort>(device === 'webgpu' ? 'onnxruntime-web/webgpu' : 'onnxruntime-web');
  library.env.wasm.numThreads = 1;
  library.env.logLevel = 'error';
  const made = (await onnx(library, device)) as Library<unknown>;
  // in Node its loader makes workers global, from which others conclude that memory is shared
  Reflect.deleteProperty(globalThis, 'Worker');
  return made;
}

const libraries = {
  'tfjs wasm': {
    package: '@tensorflow/tfjs-backend-wasm',
    device: 'wasm',
    note: 'weight stored [in, out]',
    open: tfjs,
  },
  'jax-js wasm': { package: '@jax-js/jax', device: 'wasm', note: 'jit, weight stored [out, in]', open: jaxJs },
  'onnxruntime-web wasm': { package: 'onnxruntime-web', device: 'wasm', note: 'weight packed ahead', open: ort },
  'tfjs webgpu': {
    package: '@tensorflow/tfjs-backend-webgpu',
    device: 'webgpu',
    note: 'weight stored [in, out]',
    open: tfjs,
  },
  'jax-js webgpu': { package: '@jax-js/jax', device: 'webgpu', note: 'jit, weight stored [out, in]', open: jaxJs },
  'onnxruntime-web webgpu': { package: 'onnxruntime-web', device: 'webgpu', note: 'weight packed ahead', open: ort },
} as const;

/** Peers that are installed; the others with the reason and what installs them. */
export async function jsPeers(): Promise<{ found: Contender[]; absent: { facts: ContenderFacts; reason: string }[] }> {
  const found: Contender[] = [];
  const absent: { facts: ContenderFacts; reason: string }[] = [];
  for (const [name, { package: from, device, note, open }] of Object.entries(libraries)) {
    const facts = (where: string): ContenderFacts => ({
      name,
      kind: 'peer',
      device: where,
      driver: null,
      features: [],
    });
    try {
      const manifest = join(folder, 'node_modules', from, 'package.json');
      if (!existsSync(manifest)) throw new Error(`${from} is not installed. Install: ${install}`);
      const { version } = JSON.parse(readFileSync(manifest, 'utf8')) as { version: string };
      const where = device === 'webgpu' ? await offerGpu() : 'WebAssembly, 1 thread';
      const library = (await open(device)) as Library<unknown>;
      found.push(new ProductContender(facts(`${where}, ${note}`), { [from]: version }, device === 'webgpu', library));
    } catch (error) {
      absent.push({ facts: facts(device), reason: (error as Error).message.split('\n')[0]! });
    }
  }
  return { found, absent };
}
