import { check, type Device, type DType, sizeOf, type Tensor } from '@lowrank/tensor';
import { type CheckpointTensor, parseQuantState } from './checkpoint.ts';
import { BlockwiseWeight } from './weight.ts';

/** Names of the parts of a 4-bit weight in a bitsandbytes checkpoint, given the names in the file; undefined where the weight is not 4-bit. */
export function bnbParts(
  name: string,
  names: { has(name: string): boolean },
): { state: string; rest: string[] } | undefined {
  for (const type of ['nf4', 'fp4']) {
    const state = `${name}.quant_state.bitsandbytes__${type}`;
    if (names.has(state))
      return {
        state,
        rest: ['absmax', 'quant_map', 'nested_absmax', 'nested_quant_map']
          .map((p) => `${name}.${p}`)
          .filter((p) => names.has(p)),
      };
  }
  return undefined;
}

/** A weight from the tensors of a bitsandbytes checkpoint, byte for byte. `read` gives a tensor by its full name. */
export async function fromBnbTensors(
  device: Device,
  name: string,
  names: { has(name: string): boolean },
  read: (name: string) => Promise<CheckpointTensor>,
): Promise<BlockwiseWeight> {
  const parts = bnbParts(name, names);
  check(parts, 'load', 'not a 4-bit weight of bitsandbytes', name);
  const { attrs, offset } = parseQuantState(name, (await read(parts.state)).data);
  const n = sizeOf(attrs.shape);
  const blocks = Math.ceil(n / attrs.blockSize);
  const loaded: Tensor[] = [];
  const load = async (suffix: string, dtype: DType, elements: number) => {
    const full = suffix ? `${name}.${suffix}` : name;
    const t = await read(full);
    const bytes = elements * (dtype === 'u8' ? 1 : 4);
    check(
      t.data.byteLength === bytes,
      'load',
      'a part of a 4-bit weight has the wrong size',
      () =>
        `${full}: ${t.data.byteLength} bytes, expected ${bytes} for [${attrs.shape}] in blocks of ${attrs.blockSize}`,
    );
    const made = device.withClass('weights', () => device.fromBytes(t.data, dtype, [elements]));
    loaded.push(made);
    return made;
  };
  const nested = offset !== undefined;
  try {
    const quant = {
      codes: await load('', 'u8', Math.ceil(n / 2)),
      absmax: await load('absmax', nested ? 'u8' : 'f32', blocks),
      codebook: await load('quant_map', 'f32', 16),
      ...(nested
        ? {
            nestedAbsmax: await load('nested_absmax', 'f32', Math.ceil(blocks / 256)),
            nestedCodebook: await load('nested_quant_map', 'f32', 256),
            offset: device.withClass('weights', () => device.tensor([offset])),
          }
        : {}),
    };
    return new BlockwiseWeight(quant, attrs);
  } catch (error) {
    for (const t of loaded) t.dispose();
    throw error;
  }
}
