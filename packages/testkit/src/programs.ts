import type { DType, FusedName, FusedOps, MapOperands, OpTypes } from '@lowrank/kernels';
import { leaves, mapLeaves } from '@lowrank/kernels';
import { type Case, cases, makeInputs, type RefArray } from '@lowrank/kernels/testing';
import {
  attention,
  crossEntropy,
  type Device,
  dequantize,
  dropout,
  loraLinear,
  quantMatmul,
  rmsNorm,
  rope,
  softmax,
  swiglu,
  type Tensor,
} from '@lowrank/tensor';

type Inputs<N extends FusedName> = MapOperands<FusedOps[N]['inputs'], Tensor>;

/** A differentiable function of `@lowrank/tensor`, fed by the inputs of an op's cases. */
interface Program<N extends FusedName> {
  /** Names of cases of the op. The first one is also run in half dtypes. */
  readonly cases: readonly string[];
  readonly run: (inputs: Inputs<N>, attrs: FusedOps[N]['attrs']) => Tensor;
  /** Paths of inputs that get a gradient: those that match. */
  readonly wrt: RegExp;
}

const programs: { readonly [N in FusedName]?: Program<N> } = {
  softmax: { cases: ['width 33', 'four axes', 'width 1', 'no rows'], run: ({ x }) => softmax(x), wrt: /^x$/ },
  rmsNorm: {
    cases: ['width 33', 'three axes', 'one row', 'no rows', 'width 576'],
    run: ({ x, weight }, { eps }) => rmsNorm(x, weight, eps),
    wrt: /^(x|weight)$/,
  },
  rope: {
    cases: ['2×7×3×32', 'part of the head', 'no tokens'],
    run: ({ x, cos, sin, positions }) => rope(x, cos, sin, positions),
    wrt: /^x$/,
  },
  swiglu: { cases: ['width 33', 'three axes', 'no rows'], run: ({ x }) => swiglu(x), wrt: /^x$/ },
  attention: {
    cases: [
      'grouped heads',
      'full, 31 tokens',
      'packed samples',
      'padding',
      'blind queries',
      'five queries on a cache',
      'more queries than keys',
      'causal, 1 tokens',
    ],
    run: ({ q, k, v, starts, ends }, attrs) => attention(q, k, v, { ...attrs, starts, ends }),
    wrt: /^[qkv]$/,
  },
  crossEntropy: {
    cases: ['width 33', 'width 1', 'all ignored', 'no rows', 'width 1021'],
    run: ({ logits, labels }) => crossEntropy(logits, labels),
    wrt: /^logits$/,
  },
  dropout: {
    cases: ['half', 'n=1', 'p=0.95'],
    run: ({ x, seed }, { p, site }) => dropout(x, p, seed, site),
    wrt: /^x$/,
  },
  dequantize: {
    cases: ['nf4 [32,96] by 64, nested', 'fp4 [33,67] by 64', 'int8 [7,31] by 32, nested', 'nf4 [65] by 64'],
    run: ({ weight }, attrs) => dequantize(weight, attrs),
    wrt: /^$/,
  },
  quantMatmul: {
    cases: [
      'nf4 7×64→96 by 64, nested',
      'nf4 7×64→96 by 64, nested, transposed',
      'int8 31×192→33 by 64',
      'fp4 5×127→31 by 64, nested',
      'nf4 1×64→96 by 64, nested',
      'row bias',
    ],
    run: ({ x, weight, c }, { transposed, ...attrs }) =>
      quantMatmul(x, weight, attrs, { transposed, ...(c ? { c } : {}) }),
    wrt: /^(x|c)$/,
  },
  loraLinear: {
    cases: [
      'three layers of different ranks',
      'nf4, nested',
      'the middle one without a pair',
      'no pair, bias',
      'two nf4 layers and a dense one',
      '1 rows',
      'f32 pairs',
    ],
    run: ({ x, layers }, attrs) => {
      const { y, h } = loraLinear({ x, layers }, attrs);
      h.dispose();
      return y;
    },
    wrt: /^(x|layers\.\d+\.[ab])$/,
  },
};

/** One program on one case in one dtype. */
export interface ProgramRun {
  readonly op: FusedName;
  readonly id: string;
  readonly title: string;
  readonly dtype: DType;
  readonly arrays: () => object;
  readonly run: (inputs: object) => Tensor;
  readonly wrt: RegExp;
}

/** Every run of a program, made from the cases of its op. */
export function programRuns(): ProgramRun[] {
  return (Object.entries(programs) as [FusedName, Program<never>][]).flatMap(([op, program]) =>
    program.cases.flatMap((name, index) => {
      const c = (cases[op] as unknown as readonly Case<OpTypes>[]).find((it) => it.name === name);
      if (!c) throw new Error(`programs: ${op} has no case ${name}`);
      return c.dtypes
        .filter((dtype) => dtype === 'f32' || index === 0 || !c.dtypes.includes('f32'))
        .map(
          (dtype): ProgramRun => ({
            op,
            id: `auto and off ${op} ${name} ${dtype}`,
            title: `${op} ${name} ${dtype}`,
            dtype,
            arrays: () => makeInputs(c, dtype, op),
            run: (inputs) => program.run(inputs as never, c.attrs(dtype) as never),
            wrt: program.wrt,
          }),
        );
    }),
  );
}

/** The same tree as tensors on a device; those that match `wrt` want a gradient. Gives them by path as well. */
export function upload(
  device: Device,
  arrays: object,
  wrt: RegExp,
): { inputs: object; wanted: ReadonlyMap<string, Tensor> } {
  const wanted = new Map<string, Tensor>();
  const inputs = mapLeaves<RefArray, Tensor>(arrays, ({ data, shape, dtype }, path) => {
    const tensor = device.tensor(data, { shape, dtype });
    if (wrt.test(path)) wanted.set(path, tensor.requireGrad());
    return tensor;
  }) as object;
  return { inputs, wanted };
}

/** All tensors of a tree, freed. */
export function disposeTree(tree: object): void {
  for (const { value } of leaves<Tensor>(tree)) value.dispose();
}

/** A tensor read back as the references have it. */
export async function readBack(tensor: Tensor): Promise<RefArray> {
  return { dtype: tensor.dtype, shape: tensor.shape, data: Float64Array.from(await tensor.toArray()) };
}
