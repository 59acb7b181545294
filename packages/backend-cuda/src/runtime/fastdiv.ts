import type { CommandList } from './commands.ts';

/**
 * `struct FastDivide` (kernels/common/cuda/quant.cuh): ⌊n / d⌋ for n < 2³¹ as a multiplication and shifts (Granlund and Montgomery 1994):
 * with l = ⌈log₂ d⌉ and m = ⌊2³²(2ˡ − d)/d⌋ + 1, t = ⌊m·n/2³²⌋, the quotient is (t + ⌊(n − t)/2⌋) ≫ (l − 1).
 */
export function fastDivide(list: CommandList, d: number): CommandList {
  const l = d > 1 ? 32 - Math.clz32(d - 1) : 0;
  const magic = Number((2n ** 32n * (2n ** BigInt(l) - BigInt(d))) / BigInt(d) + 1n) % 2 ** 32;
  return list
    .u32(d)
    .u32(magic)
    .u32(Math.max(l - 1, 0))
    .u32(d === 1 ? 1 : 0);
}
