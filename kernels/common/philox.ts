/**
 * Philox4x32-10 (Salmon et al., SC'11): the one random generator of the project. Four 32-bit words from a 128-bit counter and a 64-bit key.
 *
 * Element `i` of an op's output (row-major) takes word `i & 3` of counter `[i >> 2, site, step, stream]` under key `[seedLo, seedHi]`,
 * where the device buffer `seed` (u32[4]) holds `[seedLo, seedHi, step, stream]` and `site` is an attribute of the call.
 */
export function philox(
  counter: readonly [number, number, number, number],
  key: readonly [number, number],
): [number, number, number, number] {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const p0 = BigInt(c0 >>> 0) * 0xd2511f53n;
    const p1 = BigInt(c2 >>> 0) * 0xcd9e8d57n;
    const h0 = Number(p0 >> 32n);
    const l0 = Number(p0 & 0xffffffffn);
    const h1 = Number(p1 >> 32n);
    const l1 = Number(p1 & 0xffffffffn);
    [c0, c1, c2, c3] = [(h1 ^ c1 ^ k0) >>> 0, l1, (h0 ^ c3 ^ k1) >>> 0, l0];
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  return [c0 >>> 0, c1 >>> 0, c2 >>> 0, c3 >>> 0];
}

/** Uniform in [0, 1) from 24 bits: `(word >>> 8) · 2⁻²⁴`, exact in f32. */
export function uniformFromBits(word: number): number {
  return (word >>> 8) * 2 ** -24;
}
