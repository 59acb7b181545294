import { bytesOf, type DeviceBuffer, type Memory, type TensorSpec, type View } from '@lowrank/kernels';
import { type Layout, layOut, type RefArray } from '@lowrank/kernels/testing';
import { eachPlace, load, store } from './elements.ts';

/** What lies around and between tensors before a kernel runs. */
const guardByte = 0xcb;
/** What lies in destinations: NaN in every float dtype. */
const poisonByte = 0xff;

/** Counts what tests take from a memory and give back. */
export class Ledger {
  readonly memory: Memory;
  readonly #held = new Set<DeviceBuffer>();

  constructor(memory: Memory) {
    this.memory = memory;
  }

  allocate(byteLength: number): DeviceBuffer {
    const buffer = this.memory.allocate(byteLength);
    this.#held.add(buffer);
    return buffer;
  }

  release(buffer: DeviceBuffer): void {
    this.#held.delete(buffer);
    this.memory.release(buffer);
  }

  /** Bytes not given back yet. */
  get live(): number {
    let sum = 0;
    for (const buffer of this.#held) sum += buffer.byteLength;
    return sum;
  }

  /** Gives everything back, after a test that failed half way. */
  releaseAll(): void {
    for (const buffer of [...this.#held]) this.release(buffer);
  }
}

interface Block {
  readonly buffer: DeviceBuffer;
  /** As written before the run. */
  readonly before: Uint8Array;
  after: Uint8Array;
}

/** A window of a block with the words that name it in messages. */
interface Placed {
  readonly what: string;
  readonly block: number;
  readonly view: View;
}

interface Request {
  readonly what: string;
  readonly spec: TensorSpec;
  readonly start: number;
  readonly length: number;
  readonly contents: RefArray | undefined;
}

/**
 * Device memory for one call: tensors between guard bytes, destinations poisoned. Where a device lets tensors share buffers, all of them
 * lie in one; else each has its own.
 */
export class Bench {
  readonly #ledger: Ledger;
  readonly #requests: Request[] = [];
  readonly #placed = new Map<string, Placed>();
  #blocks: Block[] = [];

  constructor(ledger: Ledger) {
    this.#ledger = ledger;
  }

  /** Asks for a tensor; without contents it is poisoned. Gives its spec under the layout. */
  add(
    what: string,
    dtype: TensorSpec['dtype'],
    shape: readonly number[],
    layout: Layout,
    contents?: RefArray,
  ): TensorSpec {
    const { strides, start, length } = layOut(shape, layout);
    const spec = { dtype, shape, strides };
    this.#requests.push({ what, spec, start, length, contents });
    return spec;
  }

  /** Allocates and writes everything that was asked for. */
  place(): void {
    const { memory } = this.#ledger;
    const shared = memory.pooling.kind === 'slab';
    const up = (n: number) => Math.ceil(n / memory.alignment) * memory.alignment;
    const groups = shared ? [this.#requests] : this.#requests.map((r) => [r]);
    for (const group of groups) {
      let size = shared ? memory.alignment : 0; // a guard in front
      const bases = group.map(({ spec, length }) => {
        const base = size;
        size = up(base + Math.max(length, 1) * bytesOf[spec.dtype] + 1); // at least one guard byte behind
        return base;
      });
      const before = new Uint8Array(Math.max(size, memory.alignment)).fill(guardByte);
      const buffer = this.#ledger.allocate(before.byteLength);
      const block = this.#blocks.push({ buffer, before, after: before }) - 1;
      group.forEach(({ what, spec, start, contents }, i) => {
        const byteOffset = bases[i]! + start * bytesOf[spec.dtype];
        const view: View = { ...spec, buffer, byteOffset };
        if (contents) store(before, byteOffset, spec, contents);
        else eachByte(view, (at) => (before[at] = poisonByte));
        this.#placed.set(what, { what, block, view });
      });
      memory.write(buffer, 0, before);
    }
  }

  view(what: string): View {
    return this.#placed.get(what)!.view;
  }

  /** Reads everything back. */
  async read(): Promise<void> {
    const { memory } = this.#ledger;
    await Promise.all(
      this.#blocks.map(async (block) => {
        // A copy of its own: views of other element sizes need its start aligned.
        block.after = Uint8Array.from(await memory.read(block.buffer, 0, block.before.byteLength));
      }),
    );
  }

  /** The elements of a tensor as they are after the run. */
  result(what: string): RefArray {
    const { block, view } = this.#placed.get(what)!;
    return load(this.#blocks[block]!.after, view.byteOffset, view);
  }

  /** Nothing if only elements of `destinations` changed, else which byte did. */
  strayWrite(destinations: readonly string[]): string | undefined {
    const expected = this.#blocks.map(({ before }) => before.slice());
    for (const what of destinations) {
      const { block, view } = this.#placed.get(what)!;
      eachByte(view, (at) => (expected[block]![at] = this.#blocks[block]!.after[at]!));
    }
    for (const [index, { after }] of this.#blocks.entries()) {
      const at = after.findIndex((byte, i) => byte !== expected[index]![i]);
      if (at >= 0) return `byte ${at} was written ${this.#whereIs(index, at)}`;
    }
    return undefined;
  }

  #whereIs(block: number, at: number): string {
    const near = [...this.#placed.values()]
      .filter((p) => p.block === block)
      .map((p) => ({ p, distance: Math.abs(at - p.view.byteOffset) }))
      .sort((a, b) => a.distance - b.distance)[0]!;
    const { what, view } = near.p;
    return `outside the destinations, ${at - view.byteOffset} bytes from the start of ${what} (strides [${view.strides}])`;
  }

  release(): void {
    for (const { buffer } of this.#blocks.splice(0)) this.#ledger.release(buffer);
  }
}

function eachByte(view: View, f: (at: number) => void): void {
  const size = bytesOf[view.dtype];
  eachPlace(view, (place) => {
    for (let b = 0; b < size; b++) f(view.byteOffset + place * size + b);
  });
}
