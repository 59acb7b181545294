export { FormatError, type FormatErrorDetails } from './error.ts';
export { dequantizeBlocks } from './gguf/dequantize.ts';
export { GgufFile, type GgufHeader, type GgufOptions, openGguf } from './gguf/file.ts';
export { quantizeBlocks } from './gguf/quantize.ts';
export type { GgufTensor } from './gguf/read-tensors.ts';
export {
  blockOf,
  type DequantizableType,
  dequantizableTypes,
  type GgufType,
  isDequantizable,
  type QuantizableType,
  quantizableTypes,
} from './gguf/types.ts';
export type {
  GgufArray,
  GgufMetadata,
  GgufNumberArrays,
  GgufNumbers,
  GgufValue,
  GgufValueType,
} from './gguf/values.ts';
export { type GgufDeclaration, GgufWriter } from './gguf/writer.ts';
export { bf16ToF32, f16ToF32, f32ToBf16, f32ToF16 } from './half.ts';
export { type HttpSourceOptions, httpSource } from './http.ts';
export { Checkpoint, type CheckpointOptions, type FileResolver, openCheckpoint } from './safetensors/checkpoint.ts';
export { dtypeBytes, type SafetensorsDtype, safetensorsDtypes } from './safetensors/dtype.ts';
export { openSafetensors, SafetensorsFile } from './safetensors/file.ts';
export type { SafetensorsHeader, SafetensorsTensor } from './safetensors/header.ts';
export {
  type SaveCheckpointOptions,
  type SavedCheckpoint,
  saveCheckpoint,
  type TensorData,
} from './safetensors/save-checkpoint.ts';
export {
  type SafetensorsData,
  type SafetensorsDeclaration,
  SafetensorsWriter,
  serializeSafetensors,
} from './safetensors/writer.ts';
export { type ByteSink, type FileSink, MemorySink } from './sink.ts';
export { type ByteSource, blobSource, bytesSource } from './source.ts';
export { TensorFile, type TensorFileFormat, type TensorPlace } from './tensor-file.ts';
