import {
  type Call,
  type CollectiveGroup,
  type CollectiveName,
  type CollectiveOps,
  type CollectiveReduceOp,
  type Collectives,
  checkCollective,
  checkPlace,
  type DType,
  defaultTimeoutMs,
  type JoinOptions,
  LowrankError,
  sizeOf,
} from '@lowrank/kernels';
import { ncclPaths } from '../locate.ts';
import type { Handle } from '../native.ts';
import type { CudaDevice } from './device.ts';
import { rangeOf } from './views.ts';

/** As NCCL counts dtypes and reductions. */
const dtypeCodes: Partial<Record<DType, number>> = { f32: 7, f16: 6, bf16: 9, i32: 2 };
const reductionCodes: Record<CollectiveReduceOp, number> = { sum: 0, max: 2, mean: 4 };
const kinds = { allReduce: 0, allGather: 1, reduceScatter: 2, broadcast: 3 } as const;

/** Groups of GPUs, by NCCL. The library is looked for when a group is first made. */
export function cudaCollectives(device: CudaDevice): Collectives {
  const load = (op: string) => {
    const found = device.call(() => device.native.loadNccl(ncclPaths()));
    if (!found.ok)
      throw new LowrankError(
        op,
        'NCCL is missing',
        found.reason,
        'Install libnccl2 (or pip install nvidia-nccl-cu12, nvidia-nccl-cu13), or set LOWRANK_NCCL to the file',
      );
  };
  return {
    createId: () => {
      load('createId');
      return device.call(() => device.native.ncclId());
    },
    join: async (options) => {
      checkPlace(options);
      load('join');
      const { rank, size, id, timeoutMs = defaultTimeoutMs } = options;
      device.groups++;
      try {
        const joining = device.call(() => device.native.commJoin(device.handle, rank, size, id, timeoutMs));
        return group(device, await device.pending(joining), options);
      } catch (error) {
        device.groups--;
        throw error;
      }
    },
  };
}

function group(device: CudaDevice, handle: Handle, { rank, size }: JoinOptions): CollectiveGroup {
  let open = true;
  const enqueue = <C extends CollectiveName>(name: C, call: Call<CollectiveOps[C]>): void => {
    if (!open) throw new LowrankError(name, 'the group was left');
    checkCollective(name, { rank, size }, call);
    const { x } = call.inputs;
    const { y } = call.outputs;
    const attrs = call.attrs as { op?: CollectiveReduceOp; root?: number };
    device.commands.collective({
      group: handle,
      kind: kinds[name],
      dtype: dtypeCodes[x.dtype]!,
      reduction: reductionCodes[attrs.op ?? 'sum'],
      root: attrs.root ?? 0,
      count: sizeOf(name === 'reduceScatter' ? y.shape : x.shape),
      x: rangeOf(x),
      y: rangeOf(y),
    });
    device.enqueued();
  };
  return {
    rank,
    size,
    ops: {
      allReduce: (call) => enqueue('allReduce', call),
      allGather: (call) => enqueue('allGather', call),
      reduceScatter: (call) => enqueue('reduceScatter', call),
      broadcast: (call) => enqueue('broadcast', call),
    },
    leave: async () => {
      if (!open) throw new LowrankError('leave', 'the group was left');
      // Refused while recordings hold the group's ops: then it stays joined.
      let failure: unknown;
      await device.synchronize().catch((error: unknown) => {
        failure = error;
      });
      const leaving = device.call(() => device.native.commLeave(handle));
      open = false;
      device.groups--;
      await device.pending(leaving);
      if (failure) throw failure;
    },
  };
}
