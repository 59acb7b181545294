/**
 * The k-quants: super-blocks of 256 values in groups of 16 or 32, each group with a small integer scale, all under one f16 scale d
 * (and dmin). In each function `g` is the group of 32 values, `l` the value in it.
 */
import { f16Table } from '../half.ts';

/** 84 bytes: 16 scale nibbles and 16 min nibbles, 64 bytes of 2-bit values, d, dmin. y = d·s·q − dmin·m. */
export function dequantizeQ2K(bytes: Uint8Array, out: Float32Array): void {
  const f16 = f16Table();
  for (let at = 0, o = 0; o < out.length; at += 84, o += 256) {
    const d = f16[bytes[at + 80]! | (bytes[at + 81]! << 8)]!;
    const dmin = f16[bytes[at + 82]! | (bytes[at + 83]! << 8)]!;
    for (let g = 0; g < 8; g++) {
      const q = at + 16 + (g >> 2) * 32;
      const shift = (g & 3) * 2;
      for (let l = 0; l < 32; l += 16) {
        const scale = bytes[at + g * 2 + (l >> 4)]!;
        const step = d * (scale & 15);
        const min = dmin * (scale >> 4);
        for (let i = l; i < l + 16; i++) out[o + g * 32 + i] = step * ((bytes[q + i]! >> shift) & 3) - min;
      }
    }
  }
}

/**
 * 110 bytes: 32 bytes of third bits (bit g of byte l; 0 subtracts 4), 64 bytes of 2-bit values, 16 scales of 6 bits in 12 bytes
 * (low nibbles in the first 8, high pairs in the last 4), d. y = d·(s − 32)·q.
 */
export function dequantizeQ3K(bytes: Uint8Array, out: Float32Array): void {
  const f16 = f16Table();
  for (let at = 0, o = 0; o < out.length; at += 110, o += 256) {
    const d = f16[bytes[at + 108]! | (bytes[at + 109]! << 8)]!;
    const scales = at + 96;
    for (let g = 0; g < 8; g++) {
      const q = at + 32 + (g >> 2) * 32;
      const shift = (g & 3) * 2;
      for (let l = 0; l < 32; l += 16) {
        const j = g * 2 + (l >> 4);
        const low = (bytes[scales + (j & 7)]! >> (j < 8 ? 0 : 4)) & 15;
        const high = (bytes[scales + 8 + (j & 3)]! >> ((j >> 2) * 2)) & 3;
        const step = d * ((low | (high << 4)) - 32);
        for (let i = l; i < l + 16; i++) {
          const four = ((bytes[at + i]! >> g) & 1) === 1 ? 0 : 4;
          out[o + g * 32 + i] = step * (((bytes[q + i]! >> shift) & 3) - four);
        }
      }
    }
  }
}

/** 144 bytes: d, dmin, 8 scales and 8 mins of 6 bits in 12 bytes, 128 bytes of nibbles. y = d·s·q − dmin·m. */
export function dequantizeQ4K(bytes: Uint8Array, out: Float32Array): void {
  const f16 = f16Table();
  for (let at = 0, o = 0; o < out.length; at += 144, o += 256) {
    const d = f16[bytes[at]! | (bytes[at + 1]! << 8)]!;
    const dmin = f16[bytes[at + 2]! | (bytes[at + 3]! << 8)]!;
    for (let g = 0; g < 8; g++) {
      const step = d * scaleK4(bytes, at + 4, g);
      const min = dmin * minK4(bytes, at + 4, g);
      const q = at + 16 + (g >> 1) * 32;
      const shift = (g & 1) * 4;
      for (let l = 0; l < 32; l++) out[o + g * 32 + l] = step * ((bytes[q + l]! >> shift) & 15) - min;
    }
  }
}

/** 176 bytes: as Q4_K, with 32 bytes of fifth bits (bit g of byte l) before the nibbles. */
export function dequantizeQ5K(bytes: Uint8Array, out: Float32Array): void {
  const f16 = f16Table();
  for (let at = 0, o = 0; o < out.length; at += 176, o += 256) {
    const d = f16[bytes[at]! | (bytes[at + 1]! << 8)]!;
    const dmin = f16[bytes[at + 2]! | (bytes[at + 3]! << 8)]!;
    const high = at + 16;
    for (let g = 0; g < 8; g++) {
      const step = d * scaleK4(bytes, at + 4, g);
      const min = dmin * minK4(bytes, at + 4, g);
      const q = at + 48 + (g >> 1) * 32;
      const shift = (g & 1) * 4;
      for (let l = 0; l < 32; l++) {
        const value = ((bytes[q + l]! >> shift) & 15) | (((bytes[high + l]! >> g) & 1) << 4);
        out[o + g * 32 + l] = step * value - min;
      }
    }
  }
}

/** 210 bytes: 128 bytes of low nibbles, 64 bytes of high pairs, 16 signed scales, d. y = d·s·(q − 32). */
export function dequantizeQ6K(bytes: Uint8Array, out: Float32Array): void {
  const f16 = f16Table();
  for (let at = 0, o = 0; o < out.length; at += 210, o += 256) {
    const d = f16[bytes[at + 208]! | (bytes[at + 209]! << 8)]!;
    for (let g = 0; g < 8; g++) {
      // Of each half, groups 0 and 1 are the low nibbles of 64 bytes, 2 and 3 the high ones.
      const low = at + (g >> 2) * 64 + (g & 1) * 32;
      const lowShift = ((g >> 1) & 1) * 4;
      const high = at + 128 + (g >> 2) * 32;
      const highShift = (g & 3) * 2;
      for (let l = 0; l < 32; l += 16) {
        const step = d * ((bytes[at + 192 + g * 2 + (l >> 4)]! << 24) >> 24);
        for (let i = l; i < l + 16; i++) {
          const q = ((bytes[low + i]! >> lowShift) & 15) | (((bytes[high + i]! >> highShift) & 3) << 4);
          out[o + g * 32 + i] = step * (q - 32);
        }
      }
    }
  }
}

/** Scale `g` of the 12 bytes at `at`: six low bits for 0–3; a nibble of the last four bytes and two spare bits for 4–7. */
function scaleK4(bytes: Uint8Array, at: number, g: number): number {
  if (g < 4) return bytes[at + g]! & 63;
  return (bytes[at + g + 4]! & 15) | ((bytes[at + g - 4]! >> 2) & 0x30);
}

/** Min `g`, laid out as the scales. */
function minK4(bytes: Uint8Array, at: number, g: number): number {
  if (g < 4) return bytes[at + g + 4]! & 63;
  return (bytes[at + g + 4]! >> 4) | ((bytes[at + g]! >> 2) & 0x30);
}
