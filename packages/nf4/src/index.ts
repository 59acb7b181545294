/** NF4, FP4 and blockwise int8 weights with bitsandbytes' bytes: quantize, dequantize, multiply, save, load. */
export { type CheckpointTensor, toBnbTensors } from './checkpoint.ts';
export { bnbParts, fromBnbTensors } from './from-checkpoint.ts';
export { torchMean } from './mean.ts';
export { type QuantizeOptions, quantizeBlockwise } from './quantize.ts';
export { BlockwiseWeight, type QuantTensors } from './weight.ts';
