import { type Backend, specOf, type View } from '@lowrank/kernels';
import type { Launcher } from './gpu/launcher.ts';

const name = 'f16 conversions of the device';

/** Takes the device's conversions between f32 and f16 into use where all of them are right; WGSL leaves their rounding open. */
export async function tryHalf(backend: Backend, launcher: Launcher): Promise<void> {
  const { variants } = launcher;
  const { memory } = backend;
  const y: View = { ...specOf([4], 'u32'), buffer: memory.allocate(16), byteOffset: 0 };
  try {
    memory.write(y.buffer, 0, new Uint8Array(16));
    const bound = launcher.bind('cast', [{ name: 'y', view: y, write: true, atomic: true }]);
    launcher.params.start().u32(0, 0, 0, 0);
    launcher.launch(bound, 'common/wgsl/half-trial.wgsl', {}, 2 ** 16 / 256);
    const [wrong] = new Uint32Array(Uint8Array.from(await memory.read(y.buffer, 0, 4)).buffer);
    variants.half = wrong === 0;
    if (wrong !== 0) variants.refuse(name, `${wrong} of some 262,000 are not to nearest, or lose what is subnormal`);
  } catch (error) {
    variants.refuse(name, error instanceof Error ? error.message : String(error));
  } finally {
    memory.release(y.buffer);
  }
}
