import { bytesOf, type DType, extentBytes, LowrankError, type View } from '@lowrank/kernels';
import type { WebGpuBuffer } from './buffer.ts';
import type { Gpu } from './gpu.ts';
import { Params } from './params.ts';
import type { Pipelines } from './pipelines.ts';
import type { Defines } from './source.ts';
import type { Bindings, Stream } from './stream.ts';
import { Variants } from './variants.ts';

/** How a kernel reads words: raw 16-bit codes are `u16`, beside the dtypes of tensors. */
export type ElementType = DType | 'u16';

/** An operand of a dispatch. `name` is its prefix in the shader. */
export interface Arg {
  readonly name: string;
  readonly view: View;
  readonly write?: boolean;
  /** Where it differs from the view's dtype. */
  readonly type?: ElementType;
  /** Words that one element of the binding holds: 4 or 2 for vector loads; then offsets and strides must allow them. */
  readonly vector?: 1 | 2 | 4;
  /** Stores of parts of words that neighbours share. */
  readonly atomic?: boolean;
  /** Takes the binding of an operand before it on the same buffer, where that is read alike. */
  readonly shares?: boolean;
}

/** Operands laid on bindings: those that share a buffer which is written share a binding. */
export interface Bound {
  readonly op: string;
  readonly bindings: Bindings;
  /** `r` or `w` for each binding. */
  readonly access: string;
  /** Offset of each operand's first element in its binding, in elements, in the order of the arguments. */
  readonly offsets: readonly number[];
  /** Of all operands, for the pipeline's key. */
  readonly key: string;
  readonly args: readonly Arg[];
  readonly slots: readonly Slot[];
  readonly slotOf: readonly number[];
}

interface Slot {
  readonly buffer: WebGpuBuffer;
  readonly name: string;
  readonly write: boolean;
  element: string;
  from: number;
  to: number;
}

export const sizeOfType: Readonly<Record<ElementType, number>> = { ...bytesOf, u16: 2 };

function elementOf(arg: Arg): string {
  return arg.atomic ? 'atomic<u32>' : arg.vector === 4 ? 'vec4<u32>' : arg.vector === 2 ? 'vec2<u32>' : 'u32';
}

/** Puts an operand on a binding: one of its own, or one on the same buffer that writes it or is shared. Gives the slot's number. */
function place(slots: Slot[], arg: Arg): number {
  const buffer = arg.view.buffer as WebGpuBuffer;
  const from = arg.view.byteOffset;
  const to = from + extentBytes(arg.view);
  const element = elementOf(arg);
  const at = slots.findIndex((s) => s.buffer === buffer && (s.write || (arg.shares && s.element === element)));
  if (at < 0) return slots.push({ buffer, name: arg.name, write: arg.write ?? false, element, from, to }) - 1;
  const slot = slots[at]!;
  slot.from = Math.min(slot.from, from);
  slot.to = Math.max(slot.to, to);
  if (element !== slot.element)
    slot.element = element === 'atomic<u32>' || slot.element === 'atomic<u32>' ? 'atomic<u32>' : 'u32';
  return at;
}

/** Turns operands into bindings, finds or compiles the pipeline, and enqueues. */
export class Launcher {
  readonly gpu: Gpu;
  readonly stream: Stream;
  readonly pipelines: Pipelines;
  readonly variants = new Variants();
  /** For the dispatch that is being prepared. */
  readonly params = new Params();

  constructor(gpu: Gpu, stream: Stream, pipelines: Pipelines) {
    this.gpu = gpu;
    this.stream = stream;
    this.pipelines = pipelines;
  }

  bind(op: string, args: readonly Arg[]): Bound {
    const slots: Slot[] = [];
    const slotOf: number[] = new Array<number>(args.length);
    // What is written goes first, so that inputs on the same buffer find its binding.
    for (const writes of [true, false])
      args.forEach((arg, i) => {
        if ((arg.write ?? false) === writes) slotOf[i] = place(slots, arg);
      });
    if (slots.length > this.gpu.maxStorageBuffers)
      throw new LowrankError(
        op,
        'more buffers than a kernel may have here',
        `${slots.length}, limit ${this.gpu.maxStorageBuffers}`,
      );
    const starts = slots.map((s) => this.#window(op, s));
    let access = '';
    let groupKey = '';
    slots.forEach((s, i) => {
      access += s.write ? 'w' : 'r';
      groupKey += `/${s.buffer.id}`;
      if (starts[i]! > 0 || s.buffer.byteLength > this.gpu.maxBinding) groupKey += `@${s.from}-${s.to}`;
    });
    let key = '';
    args.forEach((arg, i) => {
      key += `;${arg.name},${arg.type ?? arg.view.dtype},${slotOf[i]}`;
    });
    for (const s of slots) key += `;${s.element}${s.write ? 'w' : 'r'}`;
    return {
      op,
      args,
      slots,
      slotOf,
      access,
      key,
      offsets: args.map((arg, i) => (arg.view.byteOffset - starts[slotOf[i]!]!) / bytesOf[arg.view.dtype]),
      bindings: {
        key: groupKey,
        entries: slots.map((s, i) => ({
          buffer: s.buffer,
          offset: starts[i]!,
          size:
            s.buffer.byteLength <= this.gpu.maxBinding
              ? s.buffer.byteLength
              : Math.min(Math.ceil((s.to - starts[i]!) / 16) * 16, s.buffer.byteLength - starts[i]!),
        })),
      },
    };
  }

  /** Where the binding of a slot starts in its buffer: 0 unless the buffer is larger than a binding may be. */
  #window(op: string, { buffer, from, to }: Slot): number {
    if (buffer.byteLength <= this.gpu.maxBinding) return 0;
    const start = Math.floor(from / 256) * 256;
    if (to - start > this.gpu.maxBinding)
      throw new LowrankError(
        op,
        'operand larger than a binding of this device',
        `${to - start} bytes, limit ${this.gpu.maxBinding}`,
        'Split the tensor into smaller ones',
      );
    return start;
  }

  /** Enqueues `file` over the operands with the words of `params`. `groups` counts workgroups; nothing happens when there are none. */
  launch(bound: Bound, file: string, defines: Defines, x: number, y = 1, z = 1): void {
    if (x === 0 || y === 0 || z === 0) return;
    this.gpu.checkAlive();
    const { half } = this.variants;
    const key = `${file}${bound.key}|${half ? 'H,' : ''}${keyOf(defines)}`;
    const pipeline =
      this.pipelines.find(key) ??
      this.pipelines.create(key, bound.op, file, { ...operandDefines(bound), HALF: half, ...defines }, bound.access);
    this.stream.dispatch(pipeline, bound.bindings, this.params.done(), [x, y, z]);
  }

  /** `count` workgroups in a row, folded in two dimensions where one is too short. */
  launchFlat(bound: Bound, file: string, defines: Defines, count: number): void {
    const y = Math.ceil(count / 65535);
    this.launch(bound, file, defines, y > 1 ? Math.ceil(count / y) : count, y);
  }
}

function keyOf(defines: Defines): string {
  let key = '';
  for (const name in defines) key += `${name}=${defines[name]},`;
  return key;
}

/** What `common/wgsl/operand.wgsl` reads of each operand. */
function operandDefines({ args, slots, slotOf }: Pick<Bound, 'args' | 'slots' | 'slotOf'>): Defines {
  const defines: Record<string, string | number | boolean> = {};
  args.forEach(({ name, view, type }, i) => {
    const slot = slots[slotOf[i]!]!;
    defines[`${name}_TYPE`] = type ?? view.dtype;
    defines[`${name}_SLOT`] = slotOf[i]! + 1;
    defines[`${name}_DECLARE`] = slot.name === name;
    defines[`${name}_BUFFER`] = `${slot.name}_data`;
    defines[`${name}_ACCESS`] = slot.write ? 'read_write' : 'read';
    defines[`${name}_ELEMENT`] = slot.element;
  });
  return defines;
}
