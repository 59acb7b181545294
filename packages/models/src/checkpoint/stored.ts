import type { FloatDType } from '@lowrank/tensor';

/** A tensor of a bitsandbytes checkpoint: raw little-endian bytes. The shape that `@lowrank/nf4` reads. */
export interface BlockwiseTensor {
  readonly dtype: 'U8' | 'F32' | 'F16' | 'BF16';
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

/** What is known of a stored tensor before it is read. */
export interface StoredInfo {
  /** Row-major, outermost axis first. */
  readonly shape: readonly number[];
  /** The dtype that its values have once streamed: the file's own, or f32 for quantized blocks. */
  readonly dtype: FloatDType;
  /** In the file. */
  readonly byteLength: number;
}

/** Weights by the names of Hugging Face checkpoints, whatever file they lie in. Values are read when asked for, in chunks. */
export interface StoredWeights {
  /** For error messages. */
  readonly name: string;
  /** Names of the tensors that a model may ask for. */
  names(): Iterable<string>;
  /** Bytes of all tensors in the file or files. */
  totalBytes(): Promise<number>;
  has(name: string): boolean;
  /** Throws with the nearest names where the tensor is not there, and for a type that has no float values. */
  info(name: string): Promise<StoredInfo>;
  /** Little-endian values in `info`'s dtype, in row-major order, cut at element boundaries. A chunk lasts until the next is asked for. */
  stream(name: string): AsyncGenerator<Uint8Array, void, undefined>;
  /** The parts of a bitsandbytes 4-bit weight are read whole. */
  raw(name: string): Promise<BlockwiseTensor>;
  close(): Promise<void>;
}
