import { cpuBackend } from '@lowrank/backend-cpu';
import { type Backend, wrapped } from '@lowrank/tensor';

/** Right but for its products, which it leaves out. */
export default async function wrongBackend(): Promise<Backend> {
  const backend = wrapped(await cpuBackend({ threads: 1 }), (op, _call, run) => {
    if (op !== 'matmul') run();
  });
  return { ...backend, name: 'wrong' };
}
