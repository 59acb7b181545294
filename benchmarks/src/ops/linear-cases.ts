import { BlockwiseWeight, quantizeBlockwise } from '@lowrank/nf4';
import {
  type FloatDType,
  gradients,
  linearCrossEntropy,
  loraLinear,
  matmul,
  type QuantType,
  scope,
  type Tensor,
} from '@lowrank/tensor';
import { bytesOfDtype, type OpCase, roundingOf } from './case.ts';
import { difference } from './proof.ts';

/** y = x·Wᵀ, as the forward pass of a layer has it. */
export function product(m: number, k: number, n: number, dtype: FloatDType, quick = false): OpCase {
  const b = bytesOfDtype[dtype];
  return {
    name: `matmul ${m}×${k}×${n} ${dtype}`,
    dtype,
    bound: 'gemm',
    work: { flops: 2 * m * k * n, bytes: b * (m * k + k * n + m * n) },
    sizes: [m, k, n],
    small: [33, 65, 31],
    quick,
    tolerance: roundingOf[dtype],
    ...(dtype === 'f32' ? { product: { m, k, n, weight: 'dense' } } : {}),
    build(data, [rows, inner, columns]) {
      const x = data.normal([rows!, inner!], 1, dtype);
      const w = data.normal([columns!, inner!], inner! ** -0.5, dtype);
      return { held: [x, w], run: () => scope(() => [matmul(x, w.transpose())]) };
    },
    // Freivalds: (x·wᵀ)·v against x·(wᵀ·v) for random v, which a product of another shape computes
    prove: (data, [rows, inner, columns]) => {
      using x = data.normal([rows!, inner!], 1, dtype);
      using w = data.normal([columns!, inner!], inner! ** -0.5, dtype);
      using v = data.normal([columns!, 1]);
      const [y, expected] = scope(() => [
        matmul(matmul(x, w.transpose()).cast('f32'), v),
        matmul(x.cast('f32'), matmul(w.cast('f32').transpose(), v)),
      ]) as [Tensor, Tensor];
      return difference([y], [expected]);
    },
  };
}

/** Bytes of a blockwise weight with double quantization. */
const packedBytes = (count: number, type: QuantType) =>
  (count * (type === 'int8' ? 8 : 4)) / 8 + count / 64 + count / 4096;

export function quantizing(n: number, k: number, type: QuantType, quick = false): OpCase {
  return {
    name: `quantize ${type} ${n}×${k}`,
    dtype: 'f32',
    bound: 'copy',
    work: { bytes: 4 * n * k + (n * k * (type === 'int8' ? 8 : 4)) / 8 + (n * k) / 16 },
    sizes: [n, k],
    small: [33, 67],
    quick,
    tolerance: 1e-6,
    alone: true,
    build(data, [rows, columns]) {
      const x = data.normal([rows!, columns!], 0.02);
      return {
        held: [x],
        run: async () => {
          const { quant } = await quantizeBlockwise(x, { quantType: type, doubleQuant: false });
          quant.codebook.dispose();
          return [quant.codes, quant.absmax];
        },
      };
    },
  };
}

export function dequantizing(n: number, k: number, type: QuantType, dtype: FloatDType, quick = false): OpCase {
  return {
    name: `dequantize ${type} ${n}×${k} ${dtype}`,
    dtype,
    bound: 'copy',
    work: { bytes: packedBytes(n * k, type) + n * k * bytesOfDtype[dtype] },
    sizes: [n, k],
    small: [33, 64],
    quick,
    tolerance: roundingOf[dtype],
    async build(data, [rows, columns]) {
      using values = data.normal([rows!, columns!], 0.02);
      const weight = await BlockwiseWeight.quantize(values, { quantType: type });
      return { held: [weight], run: () => [weight.dequantize(dtype)] };
    },
  };
}

export function quantProduct(
  m: number,
  n: number,
  k: number,
  dtype: FloatDType,
  quick = false,
  transposed = false,
): OpCase {
  return {
    name: `quantMatmul nf4 M ${m} ${n}×${k}${transposed ? ' transposed' : ''} ${dtype}`,
    dtype,
    bound: m < 16 ? 'copy' : 'gemm',
    work: { flops: 2 * m * n * k, bytes: packedBytes(n * k, 'nf4') + bytesOfDtype[dtype] * m * (n + k) },
    sizes: [m, n, k],
    small: [Math.min(m, 9), 48, 64],
    quick,
    tolerance: roundingOf[dtype],
    ...(dtype === 'f32' && !transposed ? { product: { m, k, n, weight: 'nf4' } } : {}),
    async build(data, [rows, out, inner]) {
      using values = data.normal([out!, inner!], inner! ** -0.5);
      const weight = await BlockwiseWeight.quantize(values);
      const x = data.normal([rows!, transposed ? out! : inner!], 1, dtype);
      return { held: [weight, x], run: () => [weight.matmul(x, { transposed })] };
    },
  };
}

/** One layer with a low-rank pair: forward, or forward and backward to x, A and B. */
export function adapted(
  {
    m,
    n,
    k,
    r,
    quant,
    dtype,
    back,
  }: { m: number; n: number; k: number; r: number; quant: boolean; dtype: FloatDType; back: boolean },
  quick = false,
): OpCase {
  const base = 2 * m * n * k;
  const pair = 2 * m * r * (n + k);
  const b = bytesOfDtype[dtype];
  return {
    name: `loraLinear ${quant ? 'nf4' : 'dense'} M ${m} ${n}×${k} r ${r} ${back ? 'forward+backward' : 'forward'} ${dtype}`,
    dtype,
    bound: 'gemm',
    work: {
      flops: back ? 2 * base + 3 * pair : base + pair,
      bytes: (back ? 2 : 1) * ((quant ? packedBytes(n * k, 'nf4') : b * n * k) + b * m * (n + k) + b * r * (n + k)),
    },
    sizes: [m, n, k, r],
    small: [9, 48, 64, 4],
    quick,
    tolerance: 4 * roundingOf[dtype],
    async build(data, [rows, out, inner, rank]) {
      const values = data.normal([out!, inner!], inner! ** -0.5, quant ? 'f32' : dtype);
      const weight = quant ? await BlockwiseWeight.quantize(values) : undefined;
      if (weight) values.dispose();
      const x = data.normal([rows!, inner!], 1, dtype);
      const a = data.normal([rank!, inner!], inner! ** -0.5, dtype);
      const low = data.normal([out!, rank!], 0.1, dtype);
      const dy = data.normal([rows!, out!], 1, dtype);
      if (back) for (const t of [x, a, low]) t.requireGrad();
      const layer = { ...(weight ? { quant: weight.quant } : { weight: values }), a, b: low };
      const attrs = { outFeatures: out!, scale: 2, ...(weight ? { quant: weight.attrs } : {}) };
      return {
        held: [x, a, low, dy, weight ?? values],
        run: () =>
          scope(() => {
            const { y } = loraLinear({ x, layers: [layer] }, { layers: [attrs] });
            return back ? gradients(y, [x, a, low], dy).map((g) => g!) : [y];
          }),
      };
    },
  };
}

/** Loss and gradient of the hidden states, the head frozen. */
export function headLoss(m: number, v: number, k: number, dtype: FloatDType, quick = false): OpCase {
  return {
    name: `linear+crossEntropy ${m}×${k}×${v} forward+backward ${dtype}`,
    dtype,
    bound: 'gemm',
    work: { flops: 4 * m * v * k, bytes: bytesOfDtype[dtype] * (2 * v * k + 2 * m * k) },
    sizes: [m, v, k],
    small: [17, 97, 32],
    quick,
    tolerance: 4 * roundingOf[dtype],
    build(data, [rows, vocabulary, inner]) {
      const hidden = data.normal([rows!, inner!], 1, dtype).requireGrad();
      const table = data.normal([vocabulary!, inner!], inner! ** -0.5, dtype);
      const labels = data.integers([rows!], vocabulary!);
      return {
        held: [hidden, table, labels],
        run: () =>
          scope(() => {
            const loss = linearCrossEntropy(hidden, (part) => matmul(part, table.transpose(), { dtype }), labels);
            return [loss.detach(), gradients(loss, [hidden])[0]!];
          }),
      };
    },
  };
}
