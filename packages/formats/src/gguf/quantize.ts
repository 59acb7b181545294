import { FormatError } from '../error.ts';
import { f32ToBf16, f32ToF16 } from '../half.ts';
import { bytesOf } from '../sink.ts';
import type { QuantizableType } from './types.ts';
import { blockOf, quantizableTypes } from './types.ts';

/**
 * The ggml blocks of f32 values, bit for bit those of llama.cpp. For Q8_0 `values` must be whole blocks of 32, finite, and below
 * 8.3 million in magnitude (the scale is an f16). Throws `FormatError` otherwise.
 */
export function quantizeBlocks(type: QuantizableType, values: Float32Array): Uint8Array {
  if (type === 'F32') return bytesOf(values);
  if (type === 'F16') return bytesOf(f32ToF16(values));
  if (type === 'BF16') return bytesOf(f32ToBf16(values));
  if (type === 'Q8_0') return quantizeQ8_0(values);
  throw new FormatError('gguf', 'the type must be one that can be written from f32', {
    file: 'quantizeBlocks',
    facts: `got ${JSON.stringify(type)}`,
    hint: `Writable are ${quantizableTypes.join(', ')}.`,
  });
}

/** d = max|x| / 127 in f32, stored as f16; q = x · (1/d) rounded half away from zero, with the f32 d, as ggml does. */
function quantizeQ8_0(values: Float32Array): Uint8Array {
  const block = blockOf('Q8_0');
  if (values.length % block.elements !== 0) {
    fail('values must be whole blocks of 32', `got ${values.length}`);
  }
  const blocks = values.length / block.elements;
  const out = new Uint8Array(blocks * block.bytes);
  const scales = new Float32Array(blocks);
  for (let b = 0; b < blocks; b++) {
    let largest = 0;
    for (let i = b * 32; i < b * 32 + 32; i++) {
      const magnitude = Math.abs(values[i]!);
      // Not `>`: NaN must fail too. 65520 is where an f16 rounds to infinity.
      if (!(magnitude < 65_520 * 127)) fail('values must be finite and fit an f16 scale', `value ${i} is ${values[i]}`);
      if (magnitude > largest) largest = magnitude;
    }
    scales[b] = largest / 127;
    // The reciprocal of 0, or of a scale so small that its f16 is 0, is infinite: all values are 0 then.
    const reciprocal = Math.fround(1 / scales[b]!);
    const inverse = Number.isFinite(reciprocal) ? reciprocal : 0;
    for (let i = 0; i < 32; i++) {
      const scaled = Math.fround(values[b * 32 + i]! * inverse);
      out[b * 34 + 2 + i] = Math.sign(scaled) * Math.floor(Math.abs(scaled) + 0.5);
    }
  }
  const halves = f32ToF16(scales);
  for (let b = 0; b < blocks; b++) {
    out[b * 34] = halves[b]! & 0xff;
    out[b * 34 + 1] = halves[b]! >>> 8;
  }
  return out;
}

function fail(rule: string, facts: string): never {
  throw new FormatError('gguf', rule, { file: 'quantizeBlocks', facts });
}
