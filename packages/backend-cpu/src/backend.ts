import type { Backend, Call, FusedKernel, Kernel, OpTypes } from '@lowrank/kernels';
import { attention, attentionBackward } from './fused/attention.ts';
import { adamw, dropout } from './fused/elementwise.ts';
import { loraLinear, loraLinearBackward } from './fused/lora.ts';
import { dequantize, quantize, quantMatmul } from './fused/quant.ts';
import {
  crossEntropy,
  rmsNorm,
  rmsNormBackward,
  rope,
  softmax,
  softmaxBackward,
  swiglu,
  swigluBackward,
} from './fused/rows.ts';
import { cpuMemory } from './memory.ts';
import { binary, cast, copy, fill, iota, random, select, unary } from './primitives/elementwise.ts';
import { gather, scatterAdd } from './primitives/gather.ts';
import { matmul } from './primitives/matmul.ts';
import { reduce } from './primitives/reduce.ts';
import { Engine, type EngineOptions } from './runtime/engine.ts';

export type CpuOptions = EngineOptions;

type Implementation<O extends OpTypes> = (engine: Engine, call: Call<O>) => void;

/**
 * The backend that runs wherever JavaScript runs: WebAssembly SIMD, on as many threads as there are. Results do not depend on the number of
 * threads. Kernels run before their call returns. Throws a LowrankError where WebAssembly memory is refused.
 */
export async function cpuBackend(options: CpuOptions = {}): Promise<Backend> {
  const engine = await Engine.create(options);
  /** An op's temporaries end with it, also when it throws. */
  const op =
    <O extends OpTypes>(f: Implementation<O>): Kernel<O> =>
    (call) => {
      try {
        f(engine, call);
      } finally {
        engine.reset();
      }
    };
  const fused = <O extends OpTypes>(make: (engine: Engine) => FusedKernel<O>): FusedKernel<O> => {
    const kernel = make(engine);
    return { ...kernel, run: op((_, call) => kernel.run(call)) };
  };
  const full = { store: true, compute: true, fastMatmul: true };
  const { threads, relaxed, threadNote } = engine;
  return {
    name: 'cpu',
    caps: {
      device: `WebAssembly SIMD${relaxed ? ' (relaxed)' : ''}, ${threads} thread${threads === 1 ? '' : 's'}${threadNote ? `; ${threadNote}` : ''}`,
      dtypes: {
        f32: full,
        f16: { ...full, fastMatmul: false },
        bf16: { ...full, fastMatmul: false },
        i32: { ...full, fastMatmul: false },
        u32: { ...full, fastMatmul: false },
        u8: { ...full, fastMatmul: false },
      },
      preferredCompute: 'f32',
      limits: { maxBufferBytes: Math.min(2 ** 31, engine.heap.maximumBytes), memoryBytes: engine.heap.maximumBytes },
      features: ['simd', ...(relaxed ? ['relaxed-simd'] : []), `threads=${threads}`],
      asynchronous: false,
    },
    memory: cpuMemory(engine),
    primitives: {
      binary: op(binary),
      cast: op(cast),
      copy: op(copy),
      fill: op(fill),
      gather: op(gather),
      iota: op(iota),
      matmul: op(matmul),
      random: op(random),
      reduce: op(reduce),
      scatterAdd: op(scatterAdd),
      select: op(select),
      unary: op(unary),
    },
    fused: {
      adamw: fused(adamw),
      attention: fused(attention),
      attentionBackward: fused(attentionBackward),
      crossEntropy: fused(crossEntropy),
      dequantize: fused(dequantize),
      dropout: fused(dropout),
      loraLinear: fused(loraLinear),
      loraLinearBackward: fused(loraLinearBackward),
      quantMatmul: fused(quantMatmul),
      quantize: fused(quantize),
      rmsNorm: fused(rmsNorm),
      rmsNormBackward: fused(rmsNormBackward),
      rope: fused(rope),
      softmax: fused(softmax),
      softmaxBackward: fused(softmaxBackward),
      swiglu: fused(swiglu),
      swigluBackward: fused(swigluBackward),
    },
    synchronize: async () => {},
    close: () => engine.close(),
  };
}
