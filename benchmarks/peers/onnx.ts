/** onnxruntime-web on one product: a model of one node, its weight an initializer, which is the form that it packs ahead. */
import type { Library, Shape } from './product.ts';

/** What is used of the library. */
export interface Ort {
  readonly env: {
    readonly wasm: { numThreads: number };
    logLevel: string;
    readonly webgpu: { device: Promise<GPUDevice> };
  };
  readonly InferenceSession: {
    create(
      model: Uint8Array,
      options: { executionProviders: string[]; preferredOutputLocation?: string },
    ): Promise<Session>;
  };
  readonly Tensor: {
    new (type: 'float32', values: Float32Array, shape: Shape): OrtTensor;
    fromGpuBuffer(buffer: GPUBuffer, options: { dataType: 'float32'; dims: Shape }): OrtTensor;
  };
}
interface Session {
  run(inputs: { x: OrtTensor }): Promise<{ y: OrtTensor }>;
  release(): Promise<void>;
}
interface OrtTensor {
  getData(): Promise<Float32Array>;
  dispose(): void;
}

type Value = { readonly tensor: OrtTensor; readonly buffer?: GPUBuffer } | { readonly session: Session };
const tensorOf = (v: Value) => (v as { tensor: OrtTensor }).tensor;

export async function onnx(ort: Ort, provider: 'wasm' | 'webgpu'): Promise<Library<Value>> {
  const apart = provider === 'webgpu';
  const open = async (model: Uint8Array): Promise<Value> => ({
    session: await ort.InferenceSession.create(model, {
      executionProviders: [provider],
      ...(apart ? { preferredOutputLocation: 'gpu-buffer' } : {}),
    }),
  });
  // its device is there once a session is
  await open(denseProduct(new Float32Array(4), [2, 2]));
  const device = apart ? await ort.env.webgpu.device : undefined;
  return {
    upload: (values, shape) => {
      if (!device) return { tensor: new ort.Tensor('float32', values, shape) };
      const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
      const buffer = device.createBuffer({ size: Math.ceil(values.byteLength / 16) * 16, usage });
      device.queue.writeBuffer(buffer, 0, values as Float32Array<ArrayBuffer>);
      return { tensor: ort.Tensor.fromGpuBuffer(buffer, { dataType: 'float32', dims: shape }), buffer };
    },
    weight: (values, shape) => open(denseProduct(values, shape)),
    nf4: (codes, absmax, shape) => open(nf4Product(codes, absmax, shape)),
    product: async (x, w) => ({ tensor: (await (w as { session: Session }).session.run({ x: tensorOf(x) })).y }),
    read: (t) => tensorOf(t).getData(),
    settle: async () => {
      await device?.queue.onSubmittedWorkDone();
    },
    dispose: (t) => {
      if ('session' in t) void t.session.release();
      else {
        t.tensor.dispose();
        t.buffer?.destroy();
      }
    },
  };
}

const text = new TextEncoder();

function joined(...parts: readonly (Uint8Array | readonly number[])[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, p) => sum + p.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** Fields of protocol buffers: whole numbers, and everything that has a length. */
function varint(n: number): number[] {
  const out: number[] = [];
  for (; n > 127; n = Math.floor(n / 128)) out.push((n % 128) + 128);
  return [...out, n];
}
const whole = (field: number, n: number) => joined(varint(field * 8), varint(n));
function part(field: number, content: string | Uint8Array): Uint8Array {
  const bytes = typeof content === 'string' ? text.encode(content) : content;
  return joined(varint(field * 8 + 2), varint(bytes.length), bytes);
}

/** Numbers of onnx.proto: element types, the type of an attribute. */
const [float, uint8, integer] = [1, 2, 2];

function initializer(name: string, type: number, dims: readonly number[], values: Float32Array | Uint8Array) {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return joined(...dims.map((d) => whole(1, d)), whole(2, type), part(8, name), part(9, bytes));
}

/** x [rows, k] to y [rows, n]. */
function input(name: string, columns: number): Uint8Array {
  const shape = joined(part(1, part(2, 'rows')), part(1, whole(1, columns)));
  return joined(part(1, name), part(2, part(1, joined(whole(1, float), part(2, shape)))));
}

function model([n, k]: Shape, node: Uint8Array, initializers: readonly Uint8Array[]): Uint8Array {
  const graph = joined(
    part(1, node),
    part(2, 'product'),
    ...initializers.map((i) => part(5, i)),
    part(11, input('x', k)),
    part(12, input('y', n)),
  );
  const sets = [joined(part(1, ''), whole(2, 17)), joined(part(1, 'com.microsoft'), whole(2, 1))];
  return joined(whole(1, 8), ...sets.map((s) => part(8, s)), part(7, graph));
}

function node(op: string, inputs: readonly string[], domain = '', attributes: Readonly<Record<string, number>> = {}) {
  return joined(
    ...inputs.map((i) => part(1, i)),
    part(2, 'y'),
    part(4, op),
    ...Object.entries(attributes).map(([name, n]) => part(5, joined(part(1, name), whole(3, n), whole(20, integer)))),
    part(7, domain),
  );
}

/** MatMul takes [in, out]. */
function denseProduct(values: Float32Array, [n, k]: Shape): Uint8Array {
  const turned = new Float32Array(n * k);
  for (let i = 0; i < n; i++) for (let j = 0; j < k; j++) turned[j * n + i] = values[i * k + j]!;
  return model([n, k], node('MatMul', ['x', 'w']), [initializer('w', float, [k, n], turned)]);
}

/** MatMulBnb4 of Microsoft's domain: bitsandbytes' codes. */
function nf4Product(codes: Uint8Array, absmax: Float32Array, [n, k]: Shape): Uint8Array {
  const attributes = { K: k, N: n, block_size: 64, quant_type: 1 };
  return model([n, k], node('MatMulBnb4', ['x', 'codes', 'absmax'], 'com.microsoft', attributes), [
    initializer('codes', uint8, [codes.length], codes),
    initializer('absmax', float, [absmax.length], absmax),
  ]);
}
