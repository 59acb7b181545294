// Philox4x32-10 (Salmon et al., SC'11), four counters at a time. Same numbers as common/philox.ts.

/** dst[0…16) = words of the counters [block, site, step, stream] … [block + 3, …], four words a counter in order. */
@inline
export function philox4(dst: usize, block: i32, site: i32, step: i32, stream: i32, key0: i32, key1: i32): void {
  const m0 = i32x4.splat(0xd2511f53);
  const m1 = i32x4.splat(0xcd9e8d57);
  let c0 = i32x4.add(i32x4.splat(block), i32x4(0, 1, 2, 3));
  let c1 = i32x4.splat(site);
  let c2 = i32x4.splat(step);
  let c3 = i32x4.splat(stream);
  let k0 = key0;
  let k1 = key1;
  for (let round = 0; round < 10; round++) {
    // 64-bit products of lanes 0, 1 and of lanes 2, 3: their halves are the high and low words.
    const p0 = i64x2.extmul_low_i32x4_u(c0, m0);
    const p1 = i64x2.extmul_high_i32x4_u(c0, m0);
    const q0 = i64x2.extmul_low_i32x4_u(c2, m1);
    const q1 = i64x2.extmul_high_i32x4_u(c2, m1);
    c0 = v128.xor(v128.xor(v128.shuffle<i32>(q0, q1, 1, 3, 5, 7), c1), i32x4.splat(k0));
    c2 = v128.xor(v128.xor(v128.shuffle<i32>(p0, p1, 1, 3, 5, 7), c3), i32x4.splat(k1));
    c1 = v128.shuffle<i32>(q0, q1, 0, 2, 4, 6);
    c3 = v128.shuffle<i32>(p0, p1, 0, 2, 4, 6);
    k0 += 0x9e3779b9;
    k1 += 0xbb67ae85;
  }
  const t0 = v128.shuffle<i32>(c0, c1, 0, 4, 1, 5);
  const t1 = v128.shuffle<i32>(c0, c1, 2, 6, 3, 7);
  const t2 = v128.shuffle<i32>(c2, c3, 0, 4, 1, 5);
  const t3 = v128.shuffle<i32>(c2, c3, 2, 6, 3, 7);
  v128.store(dst, v128.shuffle<i64>(t0, t2, 0, 2));
  v128.store(dst, v128.shuffle<i64>(t0, t2, 1, 3), 16);
  v128.store(dst, v128.shuffle<i64>(t1, t3, 0, 2), 32);
  v128.store(dst, v128.shuffle<i64>(t1, t3, 1, 3), 48);
}

/** Words of elements `first` & ~3 … `first` + n. Returns how many words come before `first`. `dst` has room for n + 19 words. */
export function philoxWords(dst: usize, seed: usize, site: i32, first: u64, n: i32): i32 {
  const skip = <i32>(first & 3);
  const block = <i32>(first >> 2);
  const key0 = load<i32>(seed);
  const key1 = load<i32>(seed, 4);
  const step = load<i32>(seed, 8);
  const stream = load<i32>(seed, 12);
  for (let i = 0; i < n + skip; i += 16) philox4(dst + (<usize>i << 2), block + (i >> 2), site, step, stream, key0, key1);
  return skip;
}

/** (word >>> 8) · 2⁻²⁴. */
@inline
export function uniform4(words: v128): v128 {
  return f32x4.mul(f32x4.convert_i32x4_s(i32x4.shr_u(words, 8)), f32x4.splat(5.9604644775390625e-8));
}
