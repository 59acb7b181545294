/**
 * How workgroup memory is declared that matrices are loaded from: as vectors of eight f16, as words, or as f16. NVIDIA's driver 580 reads zeros
 * from vectors.
 */
export const matrixMemories = { vectors: 1, words: 4, halves: 8 } as const;

/** How the operands of a product lie: `N` along its rows in memory, `T` transposed; left first. */
export const layouts = ['NT', 'NN', 'TN', 'TT'] as const;
export type Layout = (typeof layouts)[number];

export interface MatrixVariant {
  readonly memory: keyof typeof matrixMemories;
  /** Invocations of a subgroup. */
  readonly lanes: number;
  /** Large tiles by layout, where they were measured. */
  readonly tiles?: { readonly [L in Layout]?: MatrixTile } | undefined;
}

/** Shape of a tile on subgroup matrices: of y, of the inner axis; M by N subgroups share it; tiles in workgroup memory at a time. */
export interface MatrixTile {
  readonly BM: number;
  readonly BN: number;
  readonly BK: number;
  readonly M: number;
  readonly N: number;
  readonly stages: 1 | 2;
}

/** Shape of a portable tile of a product: of y, of the inner axis, of one invocation's part. */
export interface TileShape {
  readonly BM: number;
  readonly BN: number;
  readonly BK: number;
  readonly TM: number;
  readonly TN: number;
  /** Tiles in workgroup memory at a time: one where absent; none where operands are read through caches alone. */
  readonly stages?: 0 | 1 | 2;
  /** 32 neighbouring invocations take 8 × 4 parts instead of a row of them. */
  readonly square?: boolean;
  /** The walk over a tile's inner indices is written out. */
  readonly unroll?: boolean;
}

/** Attention on subgroup matrices, going forward with four subgroups that take 64 keys at a time (`deep`), or 32, or with eight (`wide`). */
export const attentionVariants = ['deep', 'wide', 'narrow'] as const;
export type AttentionVariant = (typeof attentionVariants)[number];

/** Kernel variants beside the portable ones: which are in use, and why others are not. Decided once, by trial, when a backend is opened. */
export class Variants {
  /** Products of f16 on subgroup matrices. */
  matrix: MatrixVariant | undefined;
  /** The adapter computes on the processor: kernels with few barriers are chosen, which cost it most. */
  software = false;
  /** The device's own conversions between f32 and f16. */
  half = false;
  /** Attention on them, too. */
  attention: AttentionVariant | undefined;
  /** Every product on subgroup matrices by this tile: for measurements and tests. */
  matrixTile: MatrixTile | undefined;
  /** Rows of x from which a quantized weight is dequantized before its product, to f16 for subgroup matrices or to f32 for others. */
  apart: Record<'f16' | 'f32', number> = { f16: 256, f32: Infinity };
  /** The portable tile of large products, where it was measured. */
  large: TileShape | undefined;
  /** Every portable product by this tile, whatever its shape: for measurements and tests. */
  tile: TileShape | undefined;
  readonly #lacking = new Map<string, string>();
  readonly #refused = new Map<string, string>();

  /** Takes measured tiles into use, where there are subgroup matrices. */
  useTiles(tiles: MatrixVariant['tiles']): void {
    if (this.matrix) this.matrix = { ...this.matrix, tiles };
  }

  /** The device does not offer what a variant needs. */
  lacks(name: string, reason: string): void {
    this.#lacking.set(name, reason);
  }

  /** The device refused a variant when it was tried, or gave wrong numbers. */
  refuse(name: string, reason: string): void {
    this.#refused.set(name, reason);
  }

  /** What was tried and refused. */
  refusals(): { readonly variant: string; readonly reason: string }[] {
    return [...this.#refused].map(([variant, reason]) => ({ variant, reason }));
  }

  /** For people: each variant with `in use` or the reason against it. */
  list(): { readonly name: string; readonly inUse: boolean; readonly reason?: string }[] {
    const rows: { name: string; inUse: boolean; reason?: string }[] = [{ name: 'portable', inUse: true }];
    if (this.half) rows.push({ name: 'f16 conversions of the device', inUse: true });
    if (this.matrix) rows.push({ name: 'subgroup-matrix', inUse: true });
    if (this.attention) rows.push({ name: `subgroup-matrix attention, ${this.attention}`, inUse: true });
    for (const [name, reason] of [...this.#lacking, ...this.#refused]) rows.push({ name, inUse: false, reason });
    return rows;
  }
}
