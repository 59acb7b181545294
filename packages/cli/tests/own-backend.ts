/** A backend of one's own for the tests: the CPU's, with its kernels counted. */
import { cpuBackend } from '@lowrank/backend-cpu';
import { counting } from '@lowrank/tensor';

export default async function ownBackend() {
  const { backend, counts } = counting(await cpuBackend({ threads: 1 }));
  return {
    ...backend,
    name: 'own-cpu',
    close: async () => {
      const calls = [...counts.values()].reduce((sum, c) => sum + c.calls, 0);
      process.stderr.write(`kernels ran: ${calls}\n`);
      await backend.close();
    },
  };
}
