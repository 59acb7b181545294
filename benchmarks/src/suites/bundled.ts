import { reasonOf } from '../backends.ts';
import type { BundledJob } from '../jobs/bundled-job.ts';
import { Runner } from '../jobs/runner.ts';
import type { ContenderFacts } from '../record.ts';
import type { Session } from '../session.ts';

export interface BundledCase {
  readonly name: string;
  readonly quick: boolean;
}

export const loadCases: readonly BundledCase[] = ['dense', 'nf4', 'int8'].map((storage) => ({
  name: `${storage} bundled`,
  quick: storage !== 'int8',
}));

export const qualityCases: readonly BundledCase[] = [
  ...['full', 'lora r 4', 'lora r 16', 'lora r 64', 'qlora nf4 r 16', 'qlora fp4 r 16', 'qlora int8 r 16'].map(
    (name) => ({
      name,
      quick: ['full', 'lora r 16', 'qlora nf4 r 16'].includes(name),
    }),
  ),
];

/** Runs load or quality cases on backends, each in a process of its own. */
export async function runBundled(
  session: Session,
  suite: 'load' | 'quality',
  backends: readonly { readonly name: string; readonly facts: ContenderFacts }[],
  cases: readonly BundledCase[],
): Promise<void> {
  const { seed, threads, full } = session.options;
  for (const [i, c] of cases.entries())
    for (const { name, facts } of backends) {
      session.signal.throwIfAborted();
      session.say(`${suite} ${i + 1}/${cases.length}: ${c.name} on ${facts.name}`);
      const job: BundledJob = {
        suite,
        cases: [c.name],
        repeats: full ? 7 : 3,
        // the recipe's run, or enough of it to see that everything learns
        steps: full ? 250 : 20,
        questions: full ? 200 : 16,
        seed,
        ...(threads ? { threads } : {}),
      };
      const script = `${import.meta.dirname}/../jobs/bundled-job.ts`;
      await using child = new Runner(facts.name, process.execPath, [
        '--conditions=source',
        script,
        name,
        JSON.stringify(job),
      ]);
      const stop = () => void child[Symbol.asyncDispose]();
      session.signal.addEventListener('abort', stop, { once: true });
      try {
        const { device, driver, features, packages } = await child.expect('ready');
        const { samples, work, figures, notes } = await child.expect('result');
        session.add(suite, c.name, { ...facts, device, driver, features }, { samples, work, figures, notes }, packages);
      } catch (error) {
        session.signal.throwIfAborted();
        session.miss(suite, c.name, facts, 'failed', reasonOf(error));
      } finally {
        session.signal.removeEventListener('abort', stop);
      }
    }
}
