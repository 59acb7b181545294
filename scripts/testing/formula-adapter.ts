import { LoraModel, peftTensors } from '../../packages/lora/src/index.ts';
import type { CausalLm } from '../../packages/models/src/index.ts';
import type { Device } from '../../packages/tensor/src/index.ts';

/** MurmurHash3's finalizer. */
export function fmix32(x: number): number {
  let h = x >>> 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/**
 * An adapter of rank 16 and alpha 32 on all linear layers whose A any language can make again (B is zero): see
 * scripts/reference/smollm2_train.py, `--initial formula`. The caller disposes it.
 */
export function formulaAdapter(model: CausalLm, device: Device): LoraModel<CausalLm> {
  const lora = new LoraModel(model, device);
  const adapter = lora.addAdapter('default', { r: 16, loraAlpha: 32, targetModules: 'all-linear' });
  const factors = [...peftTensors(lora, adapter)]
    .filter(([key]) => key.includes('.lora_A.'))
    .sort(([a], [b]) => (a < b ? -1 : 1));
  for (const [t, [, tensor]] of factors.entries()) {
    const bound = Math.sqrt(tensor.shape[1]!);
    device.write(
      tensor,
      Float32Array.from({ length: tensor.size }, (_, i) => (fmix32(t * 2 ** 20 + i) / 2 ** 31 - 1) / bound),
    );
  }
  return lora;
}
