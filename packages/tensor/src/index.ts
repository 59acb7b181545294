/** Tensors, autograd and scopes over any Backend; op definitions; the layer protocol that adapters and formats share. */
import './ops/methods.ts';

export * from '@lowrank/kernels';
export { backward, collectGradients, gradients } from './autograd/backward.ts';
export { gradEnabled, noGrad, withGrad } from './autograd/mode.ts';
export { checkpoint, type RecomputePolicy } from './autograd/recipe.ts';
export * from './decorators.ts';
export { Device, type DeviceOptions, type Fallback, type FusedMode } from './device.ts';
export { type AttentionOptions, attention } from './fused/attention.ts';
export { crossEntropy, type LinearCrossEntropyOptions, linearCrossEntropy } from './fused/cross-entropy.ts';
export { dropout } from './fused/dropout.ts';
export { rmsNorm } from './fused/rms-norm.ts';
export { rope } from './fused/rope.ts';
export { softmax } from './fused/softmax.ts';
export { swiglu } from './fused/swiglu.ts';
export { decodeFrom as decode, encode, type HostData } from './host.ts';
export {
  type BytesByClass,
  type MemoryClass,
  type MemoryStatistics,
  memoryClasses,
  type Scratch,
} from './memory/pool.ts';
export { Embedding, type EmbeddingAdapter } from './nn/embedding.ts';
export { Linear, type LinearAdapter, linearGroup } from './nn/linear.ts';
export { DenseWeight, type LinearWeight, stackWeights, type WeightOperand } from './nn/linear-weight.ts';
export { loraLinear } from './nn/lora-linear.ts';
export { Module } from './nn/module.ts';
export { RmsNorm as RmsNormLayer } from './nn/norm.ts';
export { dequantize, quantMatmul } from './nn/quant-matmul.ts';
export { nullBackend } from './null-backend.ts';
export {
  defineFused,
  type FusedDefinition,
  type FusedFunction,
  type Rule,
  type Tensors,
  type VjpContext,
} from './ops/call.ts';
export { binary, cast, gather, matmul, reduce, scatterAdd, select, unary } from './ops/primitives.ts';
export { copyInto, fillInto } from './ops/raw.ts';
export { concat, contiguous, expand, permute, reshape, slice, split, transpose } from './ops/views.ts';
export type { Recording } from './record.ts';
export { keep, Scope, scope } from './scope.ts';
export { Tensor } from './tensor.ts';
