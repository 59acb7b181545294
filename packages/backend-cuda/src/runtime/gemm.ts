import { bytesOf, type DType, type View } from '@lowrank/kernels';
import type { Plan, PlanOptions } from '../native.ts';
import type { Range } from './commands.ts';
import type { CudaDevice } from './device.ts';

/** cudaDataType codes. */
const cudaType: Readonly<Partial<Record<DType, number>>> = { f32: 0, f16: 2, bf16: 14 };

/** A row-major matrix (rows × cols elements, `ld` between rows), or its transpose, perhaps one of a batch at equal strides. */
export interface Matrix {
  readonly view: View;
  readonly rows: number;
  readonly cols: number;
  readonly ld: number;
  /** True when the matrix meant is the transpose of what lies in memory. */
  readonly transposed: boolean;
  /** Elements between members of a batch. */
  readonly stride: number;
}

/** One product for cuBLASLt: D = alpha · op(A)·op(B) + beta · D. */
export interface Gemm {
  readonly a: Matrix;
  readonly b: Matrix;
  readonly d: Matrix;
  readonly batch: number;
  readonly alpha: number;
  readonly beta: number;
}

/** The last two axes of a view as a matrix that cuBLASLt can read; undefined where neither axis is contiguous. */
export function matrixOf(view: View, stride = 0): Matrix | undefined {
  const rank = view.shape.length;
  const [rows, cols] = [view.shape[rank - 2]!, view.shape[rank - 1]!];
  const [rowStride, colStride] = [view.strides[rank - 2]!, view.strides[rank - 1]!];
  if ((colStride === 1 || cols === 1) && (rows === 1 || rowStride >= cols))
    return { view, rows, cols, ld: rows === 1 ? cols : rowStride, transposed: false, stride };
  if ((rowStride === 1 || rows === 1) && (cols === 1 || colStride >= rows))
    return { view, rows: cols, cols: rows, ld: cols === 1 ? rows : colStride, transposed: true, stride };
  return undefined;
}

/** Bytes, at most 16, that every address, pitch and stride of the matrices is a multiple of. */
function alignmentOf(...matrices: readonly Matrix[]): number {
  let bits = 16;
  for (const { view, ld, stride } of matrices) {
    const size = bytesOf[view.dtype];
    bits |= view.byteOffset | (ld * size) | (stride * size);
  }
  return bits & -bits;
}

/** Plans by shape; a shape that cuBLASLt refuses is remembered too. */
export class GemmPlans {
  readonly #plans = new Map<string, Plan | undefined>();
  readonly #device: CudaDevice;

  constructor(device: CudaDevice) {
    this.#device = device;
  }

  /** Enqueues a product; false where cuBLASLt has no algorithm for it. */
  run({ a, b, d, batch, alpha, beta }: Gemm): boolean {
    const device = this.#device;
    if (d.transposed) {
      // Dᵀ = op(B)ᵀ · op(A)ᵀ
      const flip = (m: Matrix): Matrix => ({ ...m, transposed: !m.transposed });
      return this.run({ a: flip(b), b: flip(a), d: flip(d), batch, alpha, beta });
    }
    const types = [a, b, d].map((x) => cudaType[x.view.dtype]);
    if (types.includes(undefined) || types[0] !== types[1] || (types[2] !== types[0] && d.view.dtype !== 'f32'))
      return false;
    const [typeA, typeB, typeD] = types as [number, number, number];
    const m = d.rows;
    const n = d.cols;
    const k = a.transposed ? a.rows : a.cols;
    const align = alignmentOf(a, b, d);
    if (m === 0 || n === 0 || k === 0 || align < bytesOf[a.view.dtype]) return false;
    const tf32 = device.tf32 && a.view.dtype === 'f32';
    const key = `${m} ${n} ${k} ${a.transposed} ${b.transposed} ${types} ${a.ld} ${b.ld} ${d.ld} ${batch} ${a.stride} ${b.stride} ${d.stride} ${align} ${tf32}`;
    let plan = this.#plans.get(key);
    if (!plan && this.#plans.has(key)) return false;
    if (!plan) {
      const options: PlanOptions = {
        m,
        n,
        k,
        transA: a.transposed,
        transB: b.transposed,
        typeA,
        typeB,
        typeD,
        tf32,
        lda: a.ld,
        ldb: b.ld,
        ldd: d.ld,
        batch,
        strideA: a.stride,
        strideB: b.stride,
        strideD: d.stride,
        workspaceBytes: device.blasWorkspace.bytes,
        align,
      };
      plan = this.#make(options);
      this.#plans.set(key, plan);
      if (!plan) return false;
    }
    const workspace = plan.algos[0]!.workspaceBytes > 0 ? device.blasWorkspace : undefined;
    device.commands.matmul(plan.handle, alpha, beta, start(a), start(b), start(d), workspace);
    device.enqueued();
    return true;
  }

  #make(options: PlanOptions): Plan | undefined {
    try {
      return this.#device.native.matmulPlan(this.#device.handle, options);
    } catch (error) {
      const code = (error as { code?: string }).code;
      if (code === 'CUBLAS_STATUS_NOT_SUPPORTED' || code === 'CUBLAS_STATUS_INVALID_VALUE') return undefined;
      return this.#device.call(() => {
        throw error;
      });
    }
  }
}

/** The addon knows the extent of each operand from its plan. */
function start({ view }: Matrix): Range {
  return { memory: (view.buffer as { handle?: number }).handle!, offset: view.byteOffset, bytes: 0 };
}
