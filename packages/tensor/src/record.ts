import type { Call, Kernel } from '@lowrank/kernels';
import type { Device } from './device.ts';
import type { Scratch } from './memory/pool.ts';
import { keep } from './scope.ts';

/** What a recording collects when the backend has no recorder of its own. */
export interface RecordedCalls {
  readonly deferred: boolean;
  readonly calls: { readonly kernel: Kernel<never>; readonly call: Call<never> }[];
}

/** A step that was recorded once. */
export interface Recording<T> extends Disposable {
  /** What the recorded function returned; tensors in it hold the results of the last replay. The caller disposes them. */
  readonly result: T;
  /** Enqueues the step. */
  replay(): void;
  /** Lets go of the step's memory. */
  dispose(): void;
}

/** Internal: opens an arena, private or in a scratch, and, where the backend has one, its recorder. */
export function beginRecording(device: Device, scratch?: Scratch) {
  const native = device.backend.record;
  const recorded: RecordedCalls = { deferred: !native, calls: [] };
  device.offloads?.settle();
  const arena = device.pool.beginArena(scratch);
  native?.begin();
  return {
    recorded,
    finish<T>(result: T): Recording<T> {
      device.offloads?.settle();
      const replayable = native?.end();
      device.pool.endArena();
      keep(result);
      let open = true;
      const dispose = () => {
        if (!open) return;
        open = false;
        replayable?.release();
        device.pool.releaseArena(arena);
      };
      return {
        result,
        replay: () => {
          if (replayable) replayable.replay();
          else for (const { kernel, call } of recorded.calls) kernel(call);
        },
        dispose,
        [Symbol.dispose]: dispose,
      };
    },
    abort(): void {
      native?.abort();
      device.pool.endArena();
      device.pool.releaseArena(arena);
    },
  };
}
