import {
  type Adamw,
  type Backend,
  bytesOf,
  type CrossEntropy,
  type Dropout,
  type FusedKernel,
  type OpTypes,
  type Refusal,
  type RmsNorm,
  type RmsNormBackward,
  type Rope,
  type Softmax,
  type SoftmaxBackward,
  type Spec,
  type Swiglu,
  type SwigluBackward,
  sizeOf,
  specOf,
  type TensorSpec,
  type View,
} from '@lowrank/kernels';
import type { Launcher } from '../gpu/launcher.ts';
import { collapseRows } from '../gpu/shape.ts';
import {
  bindStrided,
  cut,
  elementwise,
  finish,
  fits,
  type Present,
  presentOperands,
  type Strided,
} from '../gpu/strided.ts';
import { copy } from './elementwise.ts';
import { sumPartials } from './reduce.ts';

/** Rows that a reduction over rows is cut into. Of the shape alone. */
const rowsARange = 64;

type Fused = NonNullable<Backend['fused']>;
type RowOps =
  | 'softmax'
  | 'softmaxBackward'
  | 'rmsNorm'
  | 'rmsNormBackward'
  | 'crossEntropy'
  | 'rope'
  | 'swiglu'
  | 'swigluBackward'
  | 'dropout'
  | 'adamw';

/** Fused ops over rows or elements. */
export function rowOps(launcher: Launcher): Pick<Fused, RowOps> {
  return {
    softmax: kernel<Softmax>(
      ({ inputs, outputs }) => [inputs.x, outputs.y],
      ({ inputs: { x }, outputs: { y } }) =>
        rows(launcher, { op: 'softmax', file: 'softmax/softmax.wgsl', shape: y.shape, y: { view: y }, a: { view: x } }),
    ),
    softmaxBackward: kernel<SoftmaxBackward>(
      ({ inputs, outputs }) => [inputs.dy, inputs.y, outputs.dx],
      ({ inputs: { dy, y }, outputs: { dx } }) =>
        rows(launcher, {
          op: 'softmaxBackward',
          file: 'softmax-backward/softmax-backward.wgsl',
          shape: dx.shape,
          y: { view: dx },
          a: { view: dy },
          b: { view: y },
        }),
    ),
    rmsNorm: kernel<RmsNorm>(
      ({ inputs, outputs }) => [inputs.x, outputs.y, column(outputs.rstd)],
      ({ inputs: { x, weight }, outputs: { y, rstd }, attrs }) =>
        rows(launcher, {
          op: 'rmsNorm',
          file: 'rms-norm/rms-norm.wgsl',
          shape: y.shape,
          y: { view: y },
          a: { view: x },
          b: { view: weight, strides: lastOnly(y, weight.strides[0]!) },
          c: { view: rstd, strides: [...rstd.strides, 0], write: true },
          words: { f0: attrs.eps },
        }),
    ),
    rmsNormBackward: rmsNormBackward(launcher),
    crossEntropy: kernel<CrossEntropy>(
      () => [],
      ({ inputs: { logits, labels, scale }, outputs: { loss, dlogits }, attrs: { gradient } }) =>
        rows(launcher, {
          op: 'crossEntropy',
          file: 'cross-entropy/cross-entropy.wgsl',
          shape: logits.shape,
          y: gradient && dlogits ? { view: dlogits } : { view: loss, strides: [loss.strides[0]!, 0] },
          a: { view: logits },
          b: { view: labels, strides: [labels.strides[0]!, 0] },
          c: gradient ? { view: loss, strides: [loss.strides[0]!, 0], write: true } : undefined,
          extras: { scale: gradient && scale ? { view: scale, offset: 'u0' } : undefined },
          defines: { GRADIENT: gradient, LOSS: gradient ? 'c' : 'y', SCALED: gradient && scale !== undefined },
        }),
    ),
    rope: kernel<Rope>(
      ({ inputs, outputs }) => [inputs.x, outputs.y],
      ({ inputs: { x: from, cos, sin, positions }, outputs: { y: to }, attrs }) => {
        const inPlace = from.buffer === to.buffer && from.byteOffset === to.byteOffset;
        const heads = attrs.heads ?? from.shape[2]!;
        const [x, y] = [axisPart(from, 2, 0, heads), axisPart(to, 2, 0, heads)];
        if (!inPlace && heads < from.shape[2]!)
          copy(launcher, {
            inputs: { x: axisPart(from, 2, heads) },
            outputs: { y: axisPart(to, 2, heads) },
            attrs: {},
          });
        const half = cos.shape[1]!;
        const turned = [...x.shape.slice(0, 3), half];
        pairs(launcher, half, {
          op: 'rope',
          file: 'rope/rope.wgsl',
          shape: turned,
          y: { view: y },
          a: { view: x, reach: half * x.strides[3]! },
          b: { view: positions, strides: [...positions.strides, 0, 0] },
          c: { view: cos, strides: [0, 0, 0, cos.strides[1]!], reach: (cos.shape[0]! - 1) * cos.strides[0]! },
          d: { view: sin, strides: [0, 0, 0, sin.strides[1]!], reach: (sin.shape[0]! - 1) * sin.strides[0]! },
          words: {
            u1: cos.strides[0]!,
            u2: sin.strides[0]!,
            u3: Math.max(cos.shape[0]! - 1, 0),
            f0: attrs.inverse ? -1 : 1,
          },
        });
        const rest = x.shape[3]! - 2 * half;
        if (rest > 0 && !inPlace)
          copy(launcher, {
            inputs: { x: axisPart(x, 3, 2 * half) },
            outputs: { y: axisPart(y, 3, 2 * half) },
            attrs: {},
          });
      },
    ),
    swiglu: kernel<Swiglu>(
      () => [],
      ({ inputs: { x }, outputs: { y } }) => {
        const reach = y.shape.at(-1)! * x.strides.at(-1)!;
        elementwise(launcher, {
          op: 'swiglu',
          file: 'swiglu/swiglu.wgsl',
          shape: y.shape,
          y: { view: y },
          a: { view: x, reach },
          words: { u0: reach },
        });
      },
    ),
    swigluBackward: kernel<SwigluBackward>(
      ({ inputs, outputs }) => [inputs.dy, inputs.x, outputs.dx],
      ({ inputs: { dy, x }, outputs: { dx } }) => {
        const width = dy.shape.at(-1)!;
        pairs(launcher, width, {
          op: 'swigluBackward',
          file: 'swiglu-backward/swiglu-backward.wgsl',
          shape: dy.shape,
          y: { view: dx },
          a: { view: dy },
          b: { view: x, reach: width * x.strides.at(-1)! },
        });
      },
    ),
    dropout: kernel<Dropout>(
      () => [],
      ({ inputs: { x, seed }, outputs: { y }, attrs: { p, site } }) =>
        elementwise(launcher, {
          op: 'dropout',
          file: 'dropout/dropout.wgsl',
          shape: y.shape,
          y: { view: y },
          a: { view: x },
          b: { view: seed, strides: y.shape.map(() => 0), reach: 3 },
          words: { u0: site, f0: p, f1: 1 / (1 - p) },
        }),
    ),
    adamw: kernel<Adamw>(
      () => [],
      ({ inputs, outputs, attrs: { beta1, beta2, eps } }) => {
        for (const name of ['p', 'm', 'v'] as const)
          if (!sameView(inputs[name], outputs[name]))
            copy(launcher, { inputs: { x: inputs[name] }, outputs: { y: outputs[name] }, attrs: {} });
        const { g, hyper, gradScale } = inputs;
        elementwise(launcher, {
          op: 'adamw',
          file: 'adamw/adamw.wgsl',
          shape: outputs.p.shape,
          y: { view: outputs.p },
          a: { view: g },
          b: { view: outputs.m, write: true },
          c: { view: outputs.v, write: true },
          extras: { hyper: { view: hyper, offset: 'u0' }, scale: gradScale && { view: gradScale, offset: 'u1' } },
          defines: { SCALED: gradScale !== undefined },
          words: { f0: 1 - beta1, f1: beta2, f2: eps, f3: 1 - beta2 },
        });
      },
    ),
  };
}

function sameView(a: View, b: View): boolean {
  return (
    a.buffer === b.buffer &&
    a.byteOffset === b.byteOffset &&
    a.strides.every((s, i) => s === b.strides[i] || a.shape[i] === 1)
  );
}

/** Columns from `first` on. */
function axisPart(view: View, axis: number, first: number, end = view.shape[axis]!): View {
  return {
    ...view,
    shape: view.shape.map((d, i) => (i === axis ? end - first : d)),
    byteOffset: view.byteOffset + first * view.strides[axis]! * bytesOf[view.dtype],
  };
}

/** A tensor without the last axis, as one column of rows. */
function column<S extends TensorSpec>(spec: S): S {
  return { ...spec, shape: [...spec.shape, 1], strides: [...spec.strides, 0] };
}

function lastOnly(over: TensorSpec, stride: number): number[] {
  return over.shape.map((_, i) => (i === over.shape.length - 1 ? stride : 0));
}

/** A kernel that takes what its operands' rows join to, in at most three axes before the last. */
function kernel<O extends OpTypes>(
  walked: (spec: Spec<O>) => readonly TensorSpec[],
  run: FusedKernel<O>['run'],
): FusedKernel<O> {
  return { accepts: (spec) => rowsJoin(walked(spec)), run };
}

function rowsJoin(specs: readonly TensorSpec[]): true | Refusal {
  const [first] = specs;
  if (!first || first.shape.length <= 4) return true;
  const leading = specs.map((s) => s.strides.slice(0, -1));
  const axes = collapseRows(
    [...first.shape.slice(0, -1), 1],
    leading.map((s) => [...s, 0]),
  );
  return axes.shape.length <= 4 || { refused: 'rows lie along more than three separate axes' };
}

/** A workgroup a row: the shape and strides of a call with its leading axes joined. */
function joined(e: Strided): { shape: readonly number[]; present: Present[] } {
  const present = presentOperands(e);
  const axes = collapseRows(
    e.shape,
    present.map((p) => p.strides),
  );
  return { shape: axes.shape, present: present.map((p, i) => ({ ...p, strides: axes.strides[i]! })) };
}

/** Whether y takes whole words of two elements: rows contiguous, on words. */
function pairable(view: View, strides: readonly number[]): boolean {
  const last = strides.length - 1;
  return (
    bytesOf[view.dtype] === 2 &&
    view.byteOffset % 4 === 0 &&
    strides[last] === 1 &&
    strides.every((s, i) => i === last || s % 2 === 0)
  );
}

function rows(launcher: Launcher, e: Strided): void {
  const { shape, present } = joined(e);
  if (sizeOf(shape.slice(0, -1)) > 0) parts(launcher, shape, present, (s, p) => rowsPart(launcher, e, s, p));
}

/** Calls `run` on pieces that bindings hold: as it is where it may be, else by halves of the first axis of rows. */
function parts(
  launcher: Launcher,
  shape: readonly number[],
  present: readonly Present[],
  run: (shape: readonly number[], present: readonly Present[]) => void,
): void {
  const held = present.every(({ operand, strides }) => fits(launcher, operand, shape, strides));
  if (held || shape.length < 2) run(shape, present);
  else for (const part of cut(shape, present, Math.ceil(shape[0]! / 2))) parts(launcher, part.shape, part.present, run);
}

function rowsPart(launcher: Launcher, e: Strided, shape: readonly number[], present: readonly Present[]): void {
  const units = sizeOf(shape.slice(0, -1));
  const y = present[0]!;
  const short = bytesOf[y.operand.view.dtype] < 4;
  const paired = pairable(y.operand.view, y.strides);
  const { args, bound } = bindStrided(launcher, e, present, shape, short && !paired);
  finish(launcher, e, args, bound, present, shape, { units });
  const width = shape.at(-1)! > 512 ? 256 : shape.at(-1)! > 64 ? 128 : 32;
  launcher.launchFlat(bound, e.file, { WIDTH: width, PACK: paired ? 2 : 1, ...e.defines }, units);
}

/** Kernels of `common/wgsl/pairs.wgsl`: columns j and j + distance of y are made together. */
function pairs(launcher: Launcher, distance: number, e: Strided): void {
  const { shape, present } = joined({ ...e, y: { ...e.y, reach: distance * e.y.view.strides.at(-1)! } });
  if (sizeOf(shape) === 0) return;
  const own = { ...e, words: { ...e.words, u0: distance } };
  parts(launcher, shape, present, (s, p) => pairsPart(launcher, own, distance, s, p));
}

function pairsPart(
  launcher: Launcher,
  e: Strided,
  distance: number,
  shape: readonly number[],
  present: readonly Present[],
): void {
  const y = present[0]!;
  const paired = pairable(y.operand.view, y.strides) && distance % 2 === 0;
  const pack = paired ? 2 : 1;
  const words = shape.at(-1)! / pack;
  const units = sizeOf(shape.slice(0, -1)) * words;
  const { args, bound } = bindStrided(launcher, e, present, shape, bytesOf[y.operand.view.dtype] < 4 && !paired);
  finish(launcher, e, args, bound, present, shape, { units, words });
  launcher.launchFlat(bound, e.file, { PACK: pack, ...e.defines }, Math.ceil(units / 256));
}

function rmsNormBackward(launcher: Launcher): FusedKernel<RmsNormBackward> {
  const ranges = ({ inputs: { x } }: Spec<RmsNormBackward>) => Math.ceil(sizeOf(x.shape.slice(0, -1)) / rowsARange);
  return {
    accepts: ({ inputs, outputs }) => rowsJoin([inputs.dy, inputs.x, column(inputs.rstd), outputs.dx]),
    workspace: (spec) => (spec.attrs.needWeight ? ranges(spec) * spec.inputs.weight.shape[0]! * 4 : 0),
    run: ({ inputs: { dy, x, weight, rstd }, outputs: { dx, dweight }, workspace }) => {
      const shared = {
        shape: x.shape,
        a: { view: dy },
        b: { view: x },
        c: { view: rstd, strides: [...rstd.strides, 0] },
      };
      // First dweight: dx may lie over dy.
      if (dweight) {
        const width = weight.shape[0]!;
        const count = sizeOf(x.shape.slice(0, -1));
        const splits = Math.ceil(count / rowsARange);
        const from: View = {
          ...specOf([splits, width], 'f32'),
          buffer: (workspace ?? dweight).buffer,
          byteOffset: workspace?.byteOffset ?? 0,
        };
        if (splits > 0) {
          const e: Strided = {
            ...shared,
            op: 'rmsNormBackward',
            file: 'rms-norm-backward/weight.wgsl',
            y: { view: from, strides: x.shape.map(() => 0), reach: splits * width - 1 },
            words: { u0: rowsARange, u1: count },
          };
          const { shape, present } = joined(e);
          const { args, bound } = bindStrided(launcher, e, present, shape, false);
          finish(launcher, e, args, bound, present, shape, { units: count });
          launcher.launch(bound, e.file, {}, Math.ceil(width / 64), splits);
        }
        sumPartials(launcher, from, dweight);
      }
      rows(launcher, {
        ...shared,
        op: 'rmsNormBackward',
        file: 'rms-norm-backward/rms-norm-backward.wgsl',
        y: { view: dx },
        d: { view: weight, strides: lastOnly(x, weight.strides[0]!) },
      });
    },
  };
}
