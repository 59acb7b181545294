import { type CommandName, commandNames, commands } from './commands.ts';
import { factsOf, kebab, type OptionName } from './schema.ts';

const width = 34;

function line(name: OptionName, command: CommandName): string {
  const { help, value, default: fallback, kind } = factsOf(name);
  const on = kind === 'flag' && fallback === 'on';
  const left = `  --${on ? 'no-' : ''}${kebab(name)}${value ? ` ${value}` : ''}`;
  const needed = commands[command].required.includes(name)
    ? 'needed'
    : kind !== 'flag' && fallback
      ? `default: ${fallback}`
      : '';
  const right = [help, needed && `(${needed})`].filter(Boolean).join(' ');
  return left.length < width ? `${left.padEnd(width)}${right}` : `${left}\n${' '.repeat(width)}${right}`;
}

/** What `lowrank <command> --help` prints: made from the options' schema. */
export function commandHelp(command: CommandName): string {
  const { about, groups, examples, positional } = commands[command];
  const usage = `lowrank ${command}${positional ? ` [${kebab(positional)}]` : ''} [options]`;
  const lists = Object.entries(groups).map(
    ([title, names]) => `${title}\n${names.map((n) => line(n, command)).join('\n')}`,
  );
  return [about, `Usage: ${usage}`, ...lists, `Examples\n${examples.map((e) => `  ${e}`).join('\n')}`, '']
    .join('\n\n')
    .trimEnd();
}

/** What `lowrank --help` prints. */
export function generalHelp(): string {
  const rows = commandNames.map((name) => `  ${name.padEnd(10)}${commands[name].about}`);
  return `lowrank: fine-tune language models with LoRA and QLoRA\n\nUsage: lowrank <command> [options]\n\n${rows.join('\n')}\n\n\`lowrank <command> --help\` lists a command's options. \`lowrank demo\` shows it all in a few minutes.`;
}
