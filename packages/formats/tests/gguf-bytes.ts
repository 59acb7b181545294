/** A writer of GGUF bytes as they come, right or wrong, for tests. */
export class GgufBytes {
  readonly parts: Uint8Array[] = [];

  static header(tensors: number | bigint, values: number | bigint, version = 3): GgufBytes {
    return new GgufBytes().text('GGUF').u32(version).u64(tensors).u64(values);
  }

  raw(...bytes: number[]): this {
    this.parts.push(Uint8Array.from(bytes));
    return this;
  }

  text(text: string): this {
    this.parts.push(new TextEncoder().encode(text));
    return this;
  }

  u32(value: number): this {
    this.parts.push(new Uint8Array(Uint32Array.of(value).buffer));
    return this;
  }

  u64(value: number | bigint): this {
    this.parts.push(new Uint8Array(BigUint64Array.of(BigInt(value)).buffer));
    return this;
  }

  string(text: string): this {
    return this.u64(new TextEncoder().encode(text).length).text(text);
  }

  /** A tensor's entry; `dimensions` in the file's order, fastest first. */
  tensor(name: string, dimensions: (number | bigint)[], type: number, offset: number | bigint): this {
    this.string(name).u32(dimensions.length);
    for (const dimension of dimensions) this.u64(dimension);
    return this.u32(type).u64(offset);
  }

  /** Zeros up to a multiple of `alignment`, then `bytes` more. */
  data(bytes: number, alignment = 32): this {
    const padding = (alignment - (this.size % alignment)) % alignment;
    this.parts.push(new Uint8Array(padding + bytes));
    return this;
  }

  get size(): number {
    return this.parts.reduce((total, part) => total + part.length, 0);
  }

  get bytes(): Uint8Array {
    return Uint8Array.from(this.parts.flatMap((part) => [...part]));
  }
}
