/** How the matrix load function counts: in vectors of the tile, or in numbers. Dawn's versions differ; a trial tells. */
export interface MatrixVariant {
  readonly offsetUnit: 1 | 8;
  readonly strideUnit: 1 | 8;
  /** Eight subgroups. */
  readonly threads: number;
}

/** Shape of a portable tile of a product: of y, of the inner axis, of one invocation's part. */
export interface TileShape {
  readonly BM: number;
  readonly BN: number;
  readonly BK: number;
  readonly TM: number;
  readonly TN: number;
}

/** Kernel variants beside the portable ones: which are in use, and why others are not. Decided once, by trial, when a backend is opened. */
export class Variants {
  /** Products of f16 on subgroup matrices. */
  matrix: MatrixVariant | undefined;
  /** Attention on them, too. */
  attention = false;
  /** The portable tile of large products, where it was measured. */
  large: TileShape | undefined;
  /** Every portable product by this tile, whatever its shape: for measurements and tests. */
  tile: TileShape | undefined;
  readonly #refused = new Map<string, string>();

  refuse(name: string, reason: string): void {
    this.#refused.set(name, reason);
  }

  /** For people: each variant with `in use` or the reason against it. */
  list(): { readonly name: string; readonly inUse: boolean; readonly reason?: string }[] {
    const rows: { name: string; inUse: boolean; reason?: string }[] = [{ name: 'portable', inUse: true }];
    if (this.matrix) rows.push({ name: 'subgroup-matrix', inUse: true });
    if (this.attention) rows.push({ name: 'subgroup-matrix attention', inUse: true });
    for (const [name, reason] of this.#refused) rows.push({ name, inUse: false, reason });
    return rows;
  }
}
