import { reshape, Scope, slice, type Tensor } from '@lowrank/tensor';
import type { StateEntry } from './optimizer.ts';
import type { Unit } from './parameters.ts';

/** A tensor, whole, as part of a checkpoint. */
export function entryOf(name: string, tensor: Tensor): StateEntry {
  return {
    name,
    dtype: tensor.dtype,
    shape: tensor.shape,
    read: () => tensor.bytes(),
    write: (bytes) => tensor.device.write(tensor, bytes),
  };
}

/** State that lies over a unit as its parameters do, parameter by parameter: checkpoints do not depend on how they are gathered. */
export function* entriesOver(prefix: string, unit: Unit, state: Tensor): Generator<StateEntry> {
  for (const { name, tensor, start, end } of unit.parts) {
    const within = <T>(use: (part: Tensor) => T): T => {
      using _ = new Scope();
      return use(slice(reshape(state, [-1]), 0, start, end));
    };
    yield {
      name: `${prefix}.${name}`,
      dtype: state.dtype,
      shape: tensor.shape,
      read: () => within((part) => part.bytes()),
      write: (bytes) => within((part) => state.device.write(part, bytes)),
    };
  }
}
