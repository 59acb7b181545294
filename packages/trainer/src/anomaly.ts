import {
  type Backend,
  type Call,
  type DeviceBuffer,
  type DType,
  decode,
  isFloat,
  LowrankError,
  leaves,
  type OpTypes,
  type View,
  wrapped,
} from '@lowrank/tensor';

/** The first call whose results were not finite. */
export interface Anomaly {
  readonly op: string;
  /** Path and shape of the result: `y [4,256] f32`. */
  readonly output: string;
  readonly inputs: readonly string[];
  /** `made`: from finite operands. `passed on`: an operand was not finite already, and no call since the last look made one. */
  readonly kind: 'made' | 'passed on';
  /** Calls since the last look. */
  readonly call: number;
}

export interface AnomalyMonitor {
  /** Use it for the device that trains. */
  readonly backend: Backend;
  /** The first anomaly since the last look, if any. */
  first(): Promise<Anomaly | undefined>;
}

/** Results of checks: a maximum and a minimum of an operand, which NaN and infinities reach. */
interface Check {
  readonly call: number;
  readonly op: string;
  readonly operand: string;
  readonly output: boolean;
  readonly dtype: DType;
  readonly slab: number;
  readonly offset: number;
  /** The call's attributes name an infinity: masks are made so. */
  readonly meant: boolean;
  readonly inputs: readonly string[];
}

const slabBytes = 1 << 16;

/**
 * A backend that looks for NaN and infinities in all floats that kernels read and write. The looking happens on the device; what was found is
 * read by `first()`. Slow: for finding what went wrong, with `fused: 'off'` to see inside fused ops.
 */
export function detectAnomalies(backend: Backend): AnomalyMonitor {
  const cell = Math.max(backend.memory.alignment, 16);
  const slabs: DeviceBuffer[] = [];
  let checks: Check[] = [];
  let used = 0;
  let calls = 0;

  const look = (op: string, call: Call<OpTypes>, tree: unknown, output: boolean, inputs: readonly string[]) => {
    for (const { path, value } of leaves<View>(tree)) {
      if (!isFloat(value.dtype) || value.shape.includes(0)) continue;
      const perSlab = Math.floor(slabBytes / (2 * cell));
      const slab = Math.floor(used / perSlab);
      if (slab === slabs.length) slabs.push(backend.memory.allocate(slabBytes));
      const offset = (used++ % perSlab) * 2 * cell;
      const axes = value.shape.map((_, i) => i);
      const one = value.shape.map(() => 1);
      for (const [i, extreme] of (['max', 'min'] as const).entries()) {
        const y: View = {
          buffer: slabs[slab]!,
          byteOffset: offset + i * cell,
          dtype: value.dtype,
          shape: one,
          strides: one,
        };
        backend.primitives.reduce({ inputs: { x: value }, outputs: { y }, attrs: { op: extreme, axes } });
      }
      const meant = Object.values(call.attrs).some((a) => typeof a === 'number' && !Number.isFinite(a));
      checks.push({
        call: calls,
        op,
        operand: `${path} [${value.shape}] ${value.dtype}`,
        output,
        dtype: value.dtype,
        slab,
        offset,
        meant,
        inputs,
      });
    }
  };

  return {
    backend: wrapped(backend, (op, call, run) => {
      const inputs = leaves<View>(call.inputs).map(({ path, value }) => `${path} [${value.shape}] ${value.dtype}`);
      look(op, call, call.inputs, false, inputs);
      run();
      look(op, call, call.outputs, true, inputs);
      calls++;
    }),
    async first() {
      const done = checks;
      const held = slabs.splice(0);
      checks = [];
      used = calls = 0;
      const bytes = await Promise.all(held.map((s) => backend.memory.read(s, 0, slabBytes)));
      for (const s of held) backend.memory.release(s);
      const finite = (c: Check) =>
        [0, cell].every((at) =>
          Number.isFinite(
            decode(bytes[c.slab]!.slice(c.offset + at, c.offset + at + (c.dtype === 'f32' ? 4 : 2)), c.dtype)[0]!,
          ),
        );
      const tainted = new Set<number>();
      let passed: Check | undefined;
      for (const c of done) {
        if (finite(c)) continue;
        if (!c.output) tainted.add(c.call);
        else if (!tainted.has(c.call) && !c.meant)
          return { op: c.op, output: c.operand, inputs: c.inputs, kind: 'made', call: c.call };
        else if (!c.meant) passed ??= c;
      }
      return (
        passed && { op: passed.op, output: passed.operand, inputs: passed.inputs, kind: 'passed on', call: passed.call }
      );
    },
  };
}

/** The error for a loss or a gradient norm that is not finite. */
export function notFinite(
  what: string,
  value: number,
  step: number,
  anomaly: Anomaly | undefined,
  looked: boolean,
): LowrankError {
  const found = anomaly
    ? `; first in ${anomaly.op}: ${anomaly.output} ${anomaly.kind === 'made' ? 'from finite operands' : 'from operands that were not finite already'} (${anomaly.inputs.join(', ')})`
    : '';
  const hint = looked
    ? 'Lower the learning rate, set maxGradNorm, or train in f32'
    : 'Lower the learning rate or set maxGradNorm; --detect-anomaly names the op that came first';
  return new LowrankError('train', `the ${what} is not finite`, `${value} at step ${step}${found}`, hint);
}
