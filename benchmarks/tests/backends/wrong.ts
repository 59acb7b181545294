import { type Backend, wrapped } from '@lowrank/tensor';
import { referenceBackend } from '@lowrank/testkit';

/** Right but for its products, which it leaves out. */
export default async function wrongBackend(): Promise<Backend> {
  const backend = wrapped(referenceBackend({ fused: false }), (op, _call, run) => {
    if (op !== 'matmul') run();
  });
  return { ...backend, name: 'wrong' };
}
