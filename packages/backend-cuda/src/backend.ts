import type { Backend, Call, FusedKernel, Kernel, OpTypes, Recorder } from '@lowrank/kernels';
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
import { binary, cast, copy, fill, iota, random, select, unary } from './primitives/elementwise.ts';
import { gather, scatterAdd } from './primitives/gather.ts';
import { matmul } from './primitives/matmul.ts';
import { reduce } from './primitives/reduce.ts';
import { cudaCollectives } from './runtime/collectives.ts';
import { CudaDevice, type CudaOptions } from './runtime/device.ts';
import { GemmPlans } from './runtime/gemm.ts';
import { cudaMemory } from './runtime/memory.ts';

/** A recorded step is a CUDA graph: one launch repeats all of it. */
function recorder(device: CudaDevice): Recorder {
  let count = 0;
  let host: { release(): void } | undefined;
  return {
    begin: () => {
      host = device.offload.enter();
      device.flush();
      device.call(() => device.native.captureBegin(device.stream));
      device.recording = true;
    },
    end: () => {
      const pinned = host;
      try {
        device.offload.leave();
        device.flush();
      } finally {
        device.recording = false;
      }
      const graph = device.call(() => device.native.captureEnd(device.stream, `recording ${++count}`));
      let open = true;
      return {
        replay: () => {
          device.flush();
          device.call(() => device.native.graphLaunch(graph.handle, device.stream));
        },
        release: () => {
          if (!open) return;
          open = false;
          device.flush();
          device.call(() => device.native.release(graph.handle));
          pinned?.release();
        },
      };
    },
    abort: () => {
      device.recording = false;
      device.commands.clear();
      device.offload.abandon();
      host?.release();
      device.call(() => device.native.captureAbort(device.stream));
    },
  };
}

/**
 * The backend for NVIDIA GPUs of compute capability 8.0 and later. Kernels are enqueued on one stream; memory is handed out in stream order.
 * Throws a LowrankError that says what is missing where there is no GPU, driver or cuBLASLt (`available()` tells without throwing).
 */
export async function cudaBackend(options: CudaOptions = {}): Promise<Backend> {
  return backendOn(CudaDevice.open(options));
}

/** Internal: the contract on an open device. */
export function backendOn(device: CudaDevice): Backend {
  const plans = new GemmPlans(device);
  const op =
    <O extends OpTypes>(f: (device: CudaDevice, call: Call<O>) => void): Kernel<O> =>
    (call) =>
      f(device, call);
  const fused = <O extends OpTypes>(make: (device: CudaDevice, plans: GemmPlans) => FusedKernel<O>): FusedKernel<O> =>
    make(device, plans);
  const full = { store: true, compute: true, fastMatmul: true };
  const integer = { store: true, compute: true, fastMatmul: false };
  const { info } = device;
  return {
    name: 'cuda',
    caps: {
      device: info.name,
      dtypes: {
        f32: { ...full, fastMatmul: device.tf32 },
        f16: full,
        bf16: full,
        i32: integer,
        u32: integer,
        u8: integer,
      },
      preferredCompute: 'bf16',
      limits: { maxBufferBytes: info.memoryBytes, memoryBytes: info.memoryBytes },
      features: [
        `sm_${device.capability}`,
        `multiprocessors=${info.multiprocessors}`,
        `cublaslt=${device.blas.version}`,
        ...(device.tf32 ? ['tf32'] : []),
      ],
      asynchronous: true,
    },
    memory: cudaMemory(device),
    primitives: {
      binary: op(binary),
      cast: op(cast),
      copy: op(copy),
      fill: op(fill),
      gather: op(gather),
      iota: op(iota),
      matmul: op((d, call) => matmul(d, plans, call)),
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
    // Where every launch is waited for, steps run eagerly: a replay would hide which kernel of it fails.
    ...(device.syncEachLaunch ? {} : { record: recorder(device) }),
    collectives: cudaCollectives(device),
    synchronize: () => device.synchronize(),
    close: () => device.close(),
  };
}
