import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { cpuBackend } from '@lowrank/backend-cpu';
import { openCheckpoint } from '@lowrank/formats';
import { folderResolver } from '@lowrank/formats/node';
import { backward, Device, keep, noGrad, scope } from '@lowrank/tensor';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { modelsDir, need } from '../../../scripts/testing/shared.ts';
import { BlockwiseWeight, bnbParts, fromBnbTensors, toBnbTensors, torchMean } from '../src/index.ts';

const fixtures = join(import.meta.dirname, '../../../fixtures/nf4');
const json = (name: string) => JSON.parse(readFileSync(join(fixtures, name), 'utf8'));
const models = modelsDir();

let device: Device;
beforeAll(async () => {
  device = new Device(await cpuBackend());
});
afterEach(() => expect(device.memory().live, 'leaked bytes').toBe(0));
afterAll(() => device.close());

const sha = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

test('the mean has the bits of PyTorch', () => {
  const { means } = json('mean.json') as { means: [number, string][] };
  const longest = Math.max(...means.map(([n]) => n));
  // x[i] = f32(((i · 2654435761) mod 2³²) / 2³²)
  const x = Float32Array.from({ length: longest }, (_, i) => Number((BigInt(i) * 2654435761n) % 2n ** 32n) / 2 ** 32);
  const bits = (v: number) => `0x${new Uint32Array(Float32Array.of(v).buffer)[0]!.toString(16).padStart(8, '0')}`;
  for (const [n, want] of means) expect(bits(torchMean(x.subarray(0, n))), `mean of ${n}`).toBe(want);
});

describe('a weight', () => {
  test.each(['nf4', 'fp4', 'int8'] as const)(
    '%s multiplies as its values do, in both directions, with a gradient for x',
    async (quantType) => {
      const values = keep(device.random([96, 64], { seed: 1 }));
      const weight = await BlockwiseWeight.quantize(values, { quantType });
      const x = keep(device.random([5, 64], { seed: 2 })).requireGrad();
      const [y, want] = [keep(weight.matmul(x)), keep(scope(() => x.detach().matmul(weight.dequantize().transpose())))];
      const close = async (a: typeof y, b: typeof y) => {
        const [p, q] = [await a.toArray(), await b.toArray()];
        p.forEach((v, i) => void expect(Math.abs(v - q[i]!)).toBeLessThan(1e-4));
      };
      await close(y, want);
      const g = keep(device.random([5, 96], { seed: 3 }));
      backward(y, g);
      const dx = keep(scope(() => g.matmul(weight.dequantize())));
      await close(x.grad!, dx);
      const error = { nf4: 0.11, fp4: 0.16, int8: 0.02 }[quantType];
      const lost = keep(noGrad(() => scope(() => weight.dequantize().sub(values).square().mean())));
      expect(Math.sqrt(await lost.item())).toBeLessThan(error);
      for (const t of [values, x, x.grad!, y, want, g, dx, lost]) t.dispose();
      weight.dispose();
    },
  );

  test('goes through a bitsandbytes checkpoint byte for byte, doubly quantized and not', async () => {
    const values = keep(device.random([33, 31], { seed: 1 })); // an odd number of elements, a short last block
    for (const doubleQuant of [true, false]) {
      const weight = await BlockwiseWeight.quantize(values, { doubleQuant });
      const stored = await toBnbTensors('w', weight, 'bf16');
      expect(bnbParts('w', stored)?.state).toBe('w.quant_state.bitsandbytes__nf4');
      const again = await fromBnbTensors(device, 'w', stored, async (name) => stored.get(name)!);
      const restored = await toBnbTensors('w', again, 'bf16');
      expect([...restored.keys()].sort()).toEqual([...stored.keys()].sort());
      for (const [name, t] of stored) expect(restored.get(name)!.data, name).toEqual(t.data);
      weight.dispose();
      again.dispose();
    }
    values.dispose();
  });

  test('requantizes to its own format', async () => {
    const values = keep(device.random([64, 64], { seed: 1 }));
    const weight = await BlockwiseWeight.quantize(values, { quantType: 'fp4', blockSize: 128, doubleQuant: false });
    const again = await weight.requantize(values);
    expect(again).toMatchObject({ format: 'fp4', attrs: { blockSize: 128 }, doubleQuant: false });
    const [a, b] = [await weight.quant.codes.bytes(), await (again as BlockwiseWeight).quant.codes.bytes()];
    expect(a).toEqual(b);
    for (const t of [values, weight, again]) t.dispose();
  });
});

describe('bad input', () => {
  test('block sizes, shapes and damaged checkpoints are refused with what is wrong', async () => {
    const values = keep(device.random([8, 64], { seed: 1 }));
    await expect(BlockwiseWeight.quantize(values, { blockSize: 100 })).rejects.toThrow(/block/i);
    const flat = keep(device.random([64], { seed: 1 }));
    await expect(BlockwiseWeight.quantize(flat)).rejects.toThrow('needs a linear weight');
    const weight = await BlockwiseWeight.quantize(values);
    const stored = await toBnbTensors('w', weight);
    const read = (change: Map<string, Uint8Array>) =>
      fromBnbTensors(device, 'w', stored, async (name) => ({
        ...stored.get(name)!,
        ...(change.has(name) ? { data: change.get(name)! } : {}),
      }));
    const text = new TextEncoder();
    const state = 'w.quant_state.bitsandbytes__nf4';
    await expect(read(new Map([[state, text.encode('{')]]))).rejects.toThrow('the quantization state is not JSON');
    await expect(
      read(new Map([[state, text.encode('{"quant_type":"nf4","blocksize":64,"dtype":"float32","shape":[8]}')]])),
    ).rejects.toThrow('bad shape');
    const sound = JSON.parse(new TextDecoder().decode(stored.get(state)!.data));
    for (const [change, message] of [
      [null, 'must hold an object: w: null'],
      [{ ...sound, quant_type: 'nf3' }, 'unknown quant_type: w: nf3'],
      [{ ...sound, blocksize: 0 }, 'a power of two from 32 to 4096 values: w: 0'],
      [{ ...sound, blocksize: 96 }, 'a power of two from 32 to 4096 values: w: 96'],
      [{ ...sound, blocksize: undefined }, 'a power of two from 32 to 4096 values: w: undefined'],
      [{ ...sound, nested_offset: 'x' }, 'nested_offset must be a number: w: x'],
      [{ ...sound, nested_blocksize: 64 }, 'nested blocks must hold 256 scales: w: 64'],
      [{ ...sound, dtype: 'int8' }, 'unknown dtype in the quantization state: w: int8'],
      [{ ...sound, shape: [2 ** 30, 2 ** 30] }, 'bad shape in the quantization state'],
    ] as const)
      await expect(read(new Map([[state, text.encode(JSON.stringify(change))]])), message).rejects.toThrow(message);
    await expect(read(new Map([['w.absmax', new Uint8Array(1)]]))).rejects.toThrow(/w\.absmax: 1 bytes, expected 8/);
    for (const t of [values, flat, weight]) t.dispose();
  });
});

test('every weight of SmolLM2 has the bytes of bitsandbytes, made here and read from its checkpoint', {
  timeout: 120_000,
}, async (context) => {
  const folder = need(context, models);
  const { weights } = json('smollm2-hashes.json') as {
    weights: Record<string, { codes: string; absmax: string; nestedAbsmax: string; offset: number }>;
  };
  const dense = await openCheckpoint(folderResolver(join(folder, 'SmolLM2-135M-Instruct')));
  const quantized = await openCheckpoint(folderResolver(join(folder, 'SmolLM2-135M-Instruct-bnb-4bit')));
  expect(Object.keys(weights).length).toBe(210);
  for (const [name, want] of Object.entries(weights)) {
    const { shape } = (await dense.tensor(name))!;
    const values = keep(device.fromBytes(await dense.read(name), 'bf16', shape));
    const made = await BlockwiseWeight.quantize(values);
    const { codes, absmax, nestedAbsmax, offset } = made.quant;
    expect(
      {
        codes: sha(await codes.bytes()),
        absmax: sha(await absmax.bytes()),
        nestedAbsmax: sha(await nestedAbsmax!.bytes()),
        offset: await offset!.item(),
      },
      name,
    ).toMatchObject({
      codes: want.codes,
      absmax: want.absmax,
      nestedAbsmax: want.nestedAbsmax,
      offset: want.offset,
    });
    const stored = await toBnbTensors(name, made, 'bf16');
    for (const [part, { data }] of stored)
      if (part.includes('quant_state'))
        expect(JSON.parse(new TextDecoder().decode(data))).toEqual(
          JSON.parse(new TextDecoder().decode(await quantized.read(part))),
        );
      else expect(sha(data), part).toBe(sha(await quantized.read(part)));
    values.dispose();
    made.dispose();
  }
  await dense.close();
  await quantized.close();
});
