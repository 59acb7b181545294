import {
  attention,
  type FloatDType,
  gradients,
  keep,
  noGrad,
  rmsNorm,
  rope,
  scope,
  swiglu,
  type Tensor,
} from '@lowrank/tensor';
import { AdamW, Parameters } from '@lowrank/trainer';
import { type Built, bytesOfDtype, type Data, type OpCase, roundingOf } from './case.ts';

/** The call, or the call and the gradients of `leaves` for a given dy. */
function either(
  back: boolean,
  leaves: readonly Tensor[],
  dy: Tensor,
  held: readonly Disposable[],
  forward: () => Tensor,
): Built {
  if (back) for (const t of leaves) t.requireGrad();
  return {
    held: [...held, dy],
    run: () =>
      scope(() => {
        const y = forward();
        return back ? gradients(y, leaves, dy).map((g) => g!) : [y];
      }),
  };
}

const direction = (back: boolean) => (back ? 'forward+backward' : 'forward');

/** Causal attention of one row: T tokens, Hq query heads, Hkv key heads of width D. */
export function attending(
  t: number,
  hq: number,
  hkv: number,
  d: number,
  dtype: FloatDType,
  back: boolean,
  quick = false,
): OpCase {
  // two products over half of the score matrix; the backward pass makes one of them again and four more
  const once = 2 * 2 * hq * d * ((t * (t + 1)) / 2);
  return {
    name: `attention T ${t} ${hq}/${hkv}×${d} ${direction(back)} ${dtype}`,
    dtype,
    bound: 'gemm',
    work: { flops: back ? 3.5 * once : once, bytes: (back ? 4 : 1) * bytesOfDtype[dtype] * t * d * (2 * hq + 2 * hkv) },
    sizes: [t, hq, hkv, d],
    small: [17, 4, 2, 16],
    quick,
    tolerance: 4 * roundingOf[dtype],
    build(data, [tokens, heads, kvHeads, width]) {
      const q = data.normal([1, tokens!, heads!, width!], 1, dtype);
      const [k, v] = [0, 1].map(() => data.normal([1, tokens!, kvHeads!, width!], 1, dtype)) as [Tensor, Tensor];
      const dy = data.normal(q.shape, 1, dtype);
      return either(back, [q, k, v], dy, [q, k, v], () => attention(q, k, v));
    },
  };
}

export function normalizing(m: number, d: number, dtype: FloatDType, back: boolean, quick = false): OpCase {
  return {
    name: `rmsNorm ${m}×${d} ${direction(back)} ${dtype}`,
    dtype,
    bound: 'copy',
    work: { bytes: bytesOfDtype[dtype] * m * d * (back ? 5 : 2) },
    sizes: [m, d],
    small: [9, 67],
    quick,
    tolerance: 4 * roundingOf[dtype],
    build(data, [rows, width]) {
      const x = data.normal([rows!, width!], 1, dtype);
      const weight = data.normal([width!], 1, dtype);
      return either(back, [x], data.normal([rows!, width!], 1, dtype), [x, weight], () => rmsNorm(x, weight, 1e-5));
    },
  };
}

export function gating(m: number, f: number, dtype: FloatDType, back: boolean, quick = false): OpCase {
  return {
    name: `swiglu ${m}×${f} ${direction(back)} ${dtype}`,
    dtype,
    bound: 'copy',
    work: { bytes: bytesOfDtype[dtype] * m * f * (back ? 8 : 3) },
    sizes: [m, f],
    small: [9, 33],
    quick,
    tolerance: 4 * roundingOf[dtype],
    build(data, [rows, width]) {
      const x = data.normal([rows!, 2 * width!], 1, dtype);
      return either(back, [x], data.normal([rows!, width!], 1, dtype), [x], () => swiglu(x));
    },
  };
}

export function rotating(t: number, h: number, d: number, dtype: FloatDType, quick = false): OpCase {
  return {
    name: `rope T ${t} ${h}×${d} ${dtype}`,
    dtype,
    bound: 'copy',
    work: { bytes: bytesOfDtype[dtype] * 2 * t * h * d },
    sizes: [t, h, d],
    small: [9, 3, 16],
    quick,
    tolerance: roundingOf[dtype],
    build(data, [tokens, heads, width]) {
      const x = data.normal([1, tokens!, heads!, width!], 1, dtype);
      const [cos, sin] = [Math.cos, Math.sin].map((f) => table(data, tokens!, width! / 2, f)) as [Tensor, Tensor];
      const positions = keep(data.device.arange(tokens!).reshape([1, tokens!]));
      return { held: [x, cos, sin, positions], run: () => [noGrad(() => rope(x, cos, sin, positions))] };
    },
  };
}

function table({ device }: Data, rows: number, width: number, f: (x: number) => number): Tensor {
  const values = Float32Array.from({ length: rows * width }, (_, i) =>
    f(Math.floor(i / width) * 10000 ** (-(i % width) / width)),
  );
  return keep(device.tensor(values, { shape: [rows, width] }));
}

/** One update of a parameter set that lies in one buffer. */
export function updating(count: number, quick = false): OpCase {
  return {
    name: `adamw ${count} f32`,
    dtype: 'f32',
    bound: 'copy',
    // p, m and v are read and written, g is read
    work: { bytes: 4 * 7 * count },
    sizes: [count],
    small: [1031],
    quick,
    tolerance: 1e-4,
    build(data, [size]) {
      const p = data.normal([1, size!]).requireGrad();
      const parameters = new Parameters(data.device, [['p', p]]);
      const optimizer = new AdamW(parameters);
      using g = data.normal([1, size!]);
      // gathered gradients are views of one buffer
      data.device.runPrimitive('copy', { inputs: { x: g.view }, outputs: { y: p.grad!.view }, attrs: {} });
      optimizer.prepare(1, 1e-3);
      return {
        held: [optimizer, parameters, p],
        run: () => {
          optimizer.apply();
          return [p.alias()];
        },
      };
    },
  };
}

/** Many small calls, where launching costs more than computing: eager, or recorded once and replayed. */
export function chain(m: number, d: number, calls: number, recorded: boolean, quick = false): OpCase {
  return {
    name: `${calls} small ops ${m}×${d} ${recorded ? 'recorded' : 'eager'} f32`,
    dtype: 'f32',
    bound: 'copy',
    work: { bytes: 4 * calls * 2 * m * d },
    sizes: [m, d],
    small: [3, 17],
    quick,
    tolerance: 1e-4 * calls,
    recorded,
    build(data, [rows, width]) {
      const x = data.normal([rows!, width!]);
      const weight = data.normal([width!]);
      return {
        held: [x, weight],
        run: () =>
          scope(() => {
            let y = x.alias();
            for (let i = 0; i < calls / 2; i++) y = rmsNorm(y.affine(1.5, 0.25), weight, 1e-5);
            return [y];
          }),
      };
    },
  };
}
