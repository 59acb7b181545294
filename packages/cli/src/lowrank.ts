import { nearest } from '@lowrank/tensor';
import { type CommandName, commandNames } from './options/commands.ts';
import { messageOf, UsageError } from './options/error.ts';
import { commandHelp, generalHelp } from './options/help.ts';
import { parseOptions } from './options/parse.ts';
import type { Settings } from './options/schema.ts';
import { Console } from './report/console.ts';
import { Interrupted } from './run/interrupt.ts';
import { version } from './version.ts';

type Run = (settings: Settings, ui: Console) => Promise<number>;

/** Each command is loaded when it is asked for. */
const run: Readonly<Record<CommandName, () => Promise<Run>>> = {
  train: async () => (await import('./commands/train.ts')).train,
  eval: async () => (await import('./commands/eval.ts')).evalCommand,
  generate: async () => (await import('./commands/generate.ts')).generateCommand,
  chat: async () => (await import('./commands/chat.ts')).chat,
  quantize: async () => (await import('./commands/quantize.ts')).quantize,
  merge: async () => (await import('./commands/merge.ts')).merge,
  plan: async () => (await import('./commands/plan.ts')).plan,
  info: async () => (await import('./commands/info.ts')).info,
  demo: async () => (await import('./commands/demo.ts')).demo,
};

/**
 * Runs a command line (without `node` and the script) and gives the exit code: 0; 1 where it failed; 2 where it could not be meant; 130
 * where it was stopped. Errors are written, not thrown.
 */
export async function lowrank(argv: readonly string[]): Promise<number> {
  const [name, ...rest] = argv;
  if (name === undefined || name === 'help' || name === '--help' || name === '-h') {
    process.stdout.write(`${generalHelp()}\n`);
    return 0;
  }
  if (name === '--version' || name === '-v') {
    process.stdout.write(`${await version()}\n`);
    return 0;
  }
  try {
    if (!Object.hasOwn(run, name))
      throw new UsageError(
        'lowrank',
        'unknown command',
        name,
        `Did you mean ${nearest(name, commandNames, 1)[0]}? Known: ${commandNames.join(', ')}`,
      );
    const command = name as CommandName;
    if (rest.includes('--help') || rest.includes('-h')) {
      process.stdout.write(`${commandHelp(command)}\n`);
      return 0;
    }
    const settings = await parseOptions(command, rest);
    return await (await run[command]())(settings, new Console({ json: settings.json }));
  } catch (error) {
    if (error instanceof Interrupted) return 130;
    process.stderr.write(`${messageOf(error)}\n`);
    return error instanceof UsageError ? 2 : 1;
  }
}
