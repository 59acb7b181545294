import {
  type Backend,
  type Call,
  type CollectiveGroup,
  type Collectives,
  type DeviceBuffer,
  type FusedKernel,
  type Kernel,
  LowrankError,
  leaves,
  mapLeaves,
  type OpTypes,
  type View,
} from '@lowrank/kernels';
import { decodeFrom } from './host.ts';

type AnyCall = Call<OpTypes>;
type Around = (op: string, call: AnyCall, run: () => void) => void;

/** A backend with some parts replaced. Methods stay bound to the backend they come from, which may be an instance of a class. */
export function replacing(backend: Backend, parts: Partial<Backend>): Backend {
  const { name, caps, memory, primitives, fused, record, collectives } = backend;
  return {
    ...backend,
    name,
    caps,
    memory,
    primitives,
    fused,
    ...(record ? { record } : {}),
    ...(collectives ? { collectives } : {}),
    synchronize: () => backend.synchronize(),
    close: () => backend.close(),
    ...parts,
  };
}

/** A backend whose every kernel, primitive, fused or collective, runs inside `around`. The other decorators are built on it. */
export function wrapped(backend: Backend, around: Around): Backend {
  const wrap =
    (op: string, run: Kernel<never>): Kernel<never> =>
    (call) =>
      around(op, call as AnyCall, () => run(call));
  return replacing(backend, {
    primitives: Object.fromEntries(
      Object.entries(backend.primitives).map(([op, k]) => [op, wrap(op, k as Kernel<never>)]),
    ) as unknown as Backend['primitives'],
    fused: Object.fromEntries(
      Object.entries(backend.fused).map(([op, k]) => [op, { ...k, run: wrap(op, (k as FusedKernel<never>).run) }]),
    ) as unknown as Backend['fused'],
    ...(backend.collectives ? { collectives: wrappedCollectives(backend.collectives, wrap) } : {}),
  });
}

function wrappedCollectives(
  collectives: Collectives,
  wrap: (op: string, run: Kernel<never>) => Kernel<never>,
): Collectives {
  return {
    createId: () => collectives.createId(),
    join: async (options) => {
      const group = await collectives.join(options);
      return {
        rank: group.rank,
        size: group.size,
        ops: Object.fromEntries(
          Object.entries(group.ops).map(([op, k]) => [op, wrap(op, k as Kernel<never>)]),
        ) as unknown as CollectiveGroup['ops'],
        leave: () => group.leave(),
      };
    },
  };
}

export interface TraceEvent {
  readonly op: string;
  readonly inputs: Record<string, string>;
  readonly outputs: Record<string, string>;
  /** Milliseconds until the call returned: the whole kernel on a synchronous backend, its enqueueing on others. */
  readonly milliseconds: number;
}

const describeAll = (tree: unknown) =>
  Object.fromEntries(leaves<View>(tree).map(({ path, value }) => [path, `[${value.shape}] ${value.dtype}`]));

/** Reports every kernel call. */
export function tracing(backend: Backend, report: (event: TraceEvent) => void): Backend {
  return wrapped(backend, (op, call, run) => {
    const start = performance.now();
    run();
    report({
      op,
      inputs: describeAll(call.inputs),
      outputs: describeAll(call.outputs),
      milliseconds: performance.now() - start,
    });
  });
}

/** Counts kernel calls and the milliseconds until they returned, by op. */
export function counting(backend: Backend): {
  backend: Backend;
  counts: Map<string, { calls: number; milliseconds: number }>;
} {
  const counts = new Map<string, { calls: number; milliseconds: number }>();
  return {
    counts,
    backend: wrapped(backend, (op, _call, run) => {
      const start = performance.now();
      run();
      const entry = counts.get(op) ?? { calls: 0, milliseconds: 0 };
      entry.calls++;
      entry.milliseconds += performance.now() - start;
      counts.set(op, entry);
    }),
  };
}

export interface Difference {
  readonly op: string;
  readonly output: string;
  /** ‖out − oracle‖ / ‖oracle‖, or Infinity where non-finite values differ. */
  readonly relative: number;
}

/**
 * Runs every kernel on an oracle as well and compares outputs. Comparisons finish with `settle()`, which throws at the first output whose
 * relative difference exceeds `tolerance`, naming the op. Collectives run unchecked: an oracle has no other ranks. For finding wrong kernels,
 * not for speed.
 */
export function validating(
  backend: Backend,
  oracle: Backend,
  tolerance = 1e-3,
): { backend: Backend; settle(): Promise<Difference[]> } {
  const pending: Promise<Difference[]>[] = [];
  const span = (v: View) =>
    v.shape.reduce((p, d, i) => p + (d - 1) * v.strides[i]!, 1) *
    { f32: 4, f16: 2, bf16: 2, i32: 4, u32: 4, u8: 1 }[v.dtype];
  const empty = (v: View) => v.shape.includes(0);
  const fetch = (tree: unknown) =>
    leaves<View>(tree).map(({ value }) =>
      empty(value)
        ? Promise.resolve(new Uint8Array(0))
        : backend.memory.read(value.buffer, value.byteOffset, span(value)),
    );
  const kernelOf = (op: string): Kernel<never> | undefined =>
    (oracle.primitives as unknown as Record<string, Kernel<never>>)[op] ??
    (oracle.fused as unknown as Record<string, FusedKernel<never>>)[op]?.run;
  const compare = async (
    op: string,
    kernel: Kernel<never>,
    call: AnyCall,
    before: Promise<Uint8Array>[],
    outBefore: Promise<Uint8Array>[],
    after: Promise<Uint8Array>[],
  ): Promise<Difference[]> => {
    const held: DeviceBuffer[] = [];
    const place = (bytes: Uint8Array, v: View): View => {
      const buffer = oracle.memory.allocate(Math.max(bytes.byteLength, 4));
      held.push(buffer);
      if (bytes.byteLength) oracle.memory.write(buffer, 0, bytes);
      return { ...v, buffer, byteOffset: 0 };
    };
    const ins = await Promise.all(before);
    const outs = await Promise.all(outBefore);
    let i = 0;
    const inputs = mapLeaves<View, View>(call.inputs, (v) => place(ins[i++]!, v));
    i = 0;
    const outputs = mapLeaves<View, View>(call.outputs, (v) => place(outs[i++]!, v));
    kernel({ inputs, outputs, attrs: call.attrs } as never);
    const wants = leaves<View>(outputs);
    const result: Difference[] = [];
    for (const [n, { path, value }] of leaves<View>(call.outputs).entries()) {
      if (empty(value)) continue;
      const got = decodeFrom(await after[n]!, value.dtype);
      const want = decodeFrom(await oracle.memory.read(wants[n]!.value.buffer, 0, span(value)), value.dtype);
      let diff = 0;
      let norm = 0;
      got.forEach((g, k) => {
        const w = want[k]!;
        if (!Number.isFinite(w) || !Number.isFinite(g)) diff += Object.is(g, w) ? 0 : Infinity;
        else {
          diff += (g - w) ** 2;
          norm += w ** 2;
        }
      });
      result.push({ op, output: path, relative: norm > 0 ? Math.sqrt(diff / norm) : Math.sqrt(diff) });
    }
    for (const b of held) oracle.memory.release(b);
    return result;
  };
  return {
    backend: wrapped(backend, (op, call, run) => {
      const kernel = kernelOf(op);
      if (!kernel) return run();
      const before = fetch(call.inputs);
      const outBefore = fetch(call.outputs);
      run();
      pending.push(compare(op, kernel, call, before, outBefore, fetch(call.outputs)));
    }),
    async settle() {
      const all = (await Promise.all(pending.splice(0))).flat();
      const bad = all.find((d) => !(d.relative <= tolerance));
      if (bad)
        throw new LowrankError(
          'validate',
          'a kernel differs from the oracle',
          `${bad.op}.${bad.output}: relative difference ${bad.relative}`,
        );
      return all;
    },
  };
}
