import { LowrankError } from '@lowrank/kernels';
import type { Gpu } from './gpu.ts';
import { assemble, type Defines } from './source.ts';

/** A compiled kernel with its bind group layout. */
export interface Pipeline {
  readonly gpu: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
  /** Names the layout in keys of bind groups. */
  readonly layoutKey: string;
  readonly label: string;
}

interface Layout {
  readonly group: GPUBindGroupLayout;
  readonly pipeline: GPUPipelineLayout;
}

/** Pipelines by kernel file, definitions and access of the bindings (`r` or `w` each). */
export class Pipelines {
  readonly #gpu: Gpu;
  readonly #files: Readonly<Record<string, string>>;
  readonly #pipelines = new Map<string, Pipeline>();
  readonly #broken = new Map<string, LowrankError>();
  readonly #layouts = new Map<string, Layout>();

  constructor(gpu: Gpu, files: Readonly<Record<string, string>>) {
    this.#gpu = gpu;
    this.#files = files;
  }

  /** How many were compiled. */
  get size(): number {
    return this.#pipelines.size;
  }

  find(key: string): Pipeline | undefined {
    const error = this.#broken.size ? this.#broken.get(key) : undefined;
    if (error) throw error;
    return this.#pipelines.get(key);
  }

  /** Compiles; a refusal by the driver is kept and thrown by the next wait, under the op's name. */
  create(key: string, op: string, file: string, defines: Defines, access: string): Pipeline {
    const { device } = this.#gpu;
    const label = `lowrank ${op} ${file}`;
    const layout = this.#layout(access);
    const code = assemble(this.#files, file, defines);
    const gpu = this.#gpu.scoped(
      'validation',
      () =>
        device.createComputePipeline({
          label,
          layout: layout.pipeline,
          compute: { module: device.createShaderModule({ label, code }) },
        }),
      (message) => {
        const error = new LowrankError(op, 'the shader does not compile here', `${file}: ${message}`);
        this.#broken.set(key, error);
        return error;
      },
    );
    const pipeline = { gpu, layout: layout.group, layoutKey: access, label };
    this.#pipelines.set(key, pipeline);
    return pipeline;
  }

  /** Compiles without keeping: undefined when the driver takes it, else its message. */
  async probe(op: string, file: string, defines: Defines, access: string): Promise<string | undefined> {
    const { device } = this.#gpu;
    const label = `lowrank ${op} ${file}`;
    device.pushErrorScope('validation');
    try {
      const module = device.createShaderModule({ label, code: assemble(this.#files, file, defines) });
      await device.createComputePipelineAsync({ label, layout: this.#layout(access).pipeline, compute: { module } });
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    } finally {
      await device.popErrorScope();
    }
    return undefined;
  }

  #layout(access: string): Layout {
    let layout = this.#layouts.get(access);
    if (!layout) {
      const { device } = this.#gpu;
      const visibility = GPUShaderStage.COMPUTE;
      const group = device.createBindGroupLayout({
        label: `lowrank ${access}`,
        entries: [
          { binding: 0, visibility, buffer: { type: 'uniform', hasDynamicOffset: true } },
          ...[...access].map((a, i) => ({
            binding: i + 1,
            visibility,
            buffer: { type: a === 'w' ? ('storage' as const) : ('read-only-storage' as const) },
          })),
        ],
      });
      layout = { group, pipeline: device.createPipelineLayout({ bindGroupLayouts: [group] }) };
      this.#layouts.set(access, layout);
    }
    return layout;
  }
}
