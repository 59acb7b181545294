import { readFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { nearest } from '@lowrank/tensor';
import { parse as parseYaml } from 'yaml';
import { parseBytes } from '../report/format.ts';
import { type CommandName, commandNames, commands, optionsOf } from './commands.ts';
import { UsageError } from './error.ts';
import { camel, factsOf, flagOf, kebab, type OptionName, optionNames, type Settings, schema } from './schema.ts';

type Raw = Partial<Record<OptionName, unknown>>;

const known = new Set<string>(optionNames);
const isFlag = (name: OptionName) => factsOf(name).kind === 'flag';

/** `\n`, `\t` and `\\` of a template, which shells hand on as two characters. */
function unescaped(text: string): string {
  return text.replace(/\\([nrt\\])/g, (_, c: string) => ({ n: '\n', r: '\r', t: '\t', '\\': '\\' })[c]!);
}

/** A text of the command line, or a value of a file, as the kind of value that the option takes. What cannot be one stays as it is, for the schema to refuse. */
function typedValue(name: OptionName, raw: unknown): unknown {
  const { kind } = factsOf(name);
  if (kind === 'template') return typeof raw === 'string' ? unescaped(raw) : raw;
  if (kind === 'list') {
    const parts = typeof raw === 'string' ? [raw] : raw;
    if (!Array.isArray(parts)) return parts;
    if (name === 'stop') return parts.map((p) => (typeof p === 'string' ? unescaped(p) : p));
    return parts.flatMap((p) => (typeof p === 'string' ? splitNames(p) : [p]));
  }
  if (kind === 'bytes') return typeof raw === 'string' ? (parseBytes(raw) ?? raw) : raw;
  if (typeof raw !== 'string') return raw;
  const number = (s: string) => (s.trim() === '' ? Number.NaN : Number(s));
  if (kind === 'number') return number(raw);
  if (kind === 'numbers') return raw.split(',').map(number);
  if (kind === 'pairs')
    return Object.fromEntries(
      raw
        .split(',')
        .map((pair) => [pair.slice(0, pair.lastIndexOf('=')), number(pair.slice(pair.lastIndexOf('=') + 1))]),
    );
  return raw;
}

/** Names at commas; a regular expression may hold commas in brackets. */
function splitNames(text: string): string[] {
  if (/[()[\]{}|^$*+?\\]/.test(text)) return [text];
  return text.split(',').map((s) => s.trim());
}

function unknownOption(command: CommandName, given: string): never {
  const name = camel(given.replace(/^no-/, ''));
  const here = [...optionsOf(command)];
  if (known.has(name)) {
    const owners = commandNames.filter((c) => optionsOf(c).has(name as OptionName));
    throw new UsageError(
      command,
      'the option belongs to another command',
      `--${given}`,
      `It is known to ${owners.join(', ')}`,
    );
  }
  const near = nearest(
    given,
    here.flatMap((n) => (isFlag(n) ? [kebab(n), `no-${kebab(n)}`] : [kebab(n)])),
    1,
  )[0];
  throw new UsageError(
    command,
    'unknown option',
    `--${given}`,
    `Did you mean --${near}? \`lowrank ${command} --help\` lists all`,
  );
}

/** Options of the command line by name. */
function fromArguments(command: CommandName, argv: readonly string[]): Raw {
  // `--resume` alone means the latest checkpoint
  const args = argv.map((a, i) =>
    a === '--resume' && (argv[i + 1] === undefined || argv[i + 1]!.startsWith('-')) ? '--resume=auto' : a,
  );
  const allowed = optionsOf(command);
  const types: Record<string, { type: 'string' | 'boolean' }> = {};
  for (const name of allowed) {
    types[kebab(name)] = { type: isFlag(name) ? 'boolean' : 'string' };
    if (isFlag(name)) types[`no-${kebab(name)}`] = { type: 'boolean' };
  }
  const { tokens } = parseArgs({ args, options: types, strict: false, allowPositionals: true, tokens: true });
  const out: Raw = {};
  const free: string[] = [];
  for (const token of tokens) {
    if (token.kind === 'positional') free.push(token.value);
    if (token.kind !== 'option') continue;
    if (!token.rawName.startsWith('--'))
      throw new UsageError(command, 'unknown option', token.rawName, 'Options are written out: --batch-size 4');
    const { name: given, value, inlineValue } = token;
    if (!Object.hasOwn(types, given)) unknownOption(command, given);
    const negated = given.startsWith('no-') && !allowed.has(camel(given) as OptionName);
    const name = camel(negated ? given.slice(3) : given) as OptionName;
    if (isFlag(name)) {
      if (value !== undefined && value !== 'true' && value !== 'false')
        throw new UsageError(command, `--${given} takes no value`, value);
      out[name] = (value !== 'false') !== negated;
    } else {
      if (value === undefined || (!inlineValue && value.startsWith('--') && value.length > 2))
        throw new UsageError(command, `--${given} needs a value`, factsOf(name).value ?? '');
      out[name] = factsOf(name).kind === 'list' ? [...((out[name] as string[] | undefined) ?? []), value] : value;
    }
  }
  const { positional } = commands[command];
  for (const [i, value] of free.entries()) {
    if (positional && i === 0 && out[positional] === undefined) out[positional] = value;
    else
      throw new UsageError(
        command,
        'what does this belong to?',
        value,
        'Values with spaces need quotes; options begin with two dashes',
      );
  }
  return out;
}

/** Options of a YAML or JSON file by name, those of other commands left out. Throws on names that no command knows. */
async function fromFile(command: CommandName, path: string): Promise<Raw> {
  const source = await readFile(path, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw new UsageError(
      command,
      'the configuration file cannot be read',
      cause.code === 'ENOENT' ? `${path} is not there` : cause.message,
      '',
      { cause },
    );
  });
  let value: unknown;
  try {
    value = parseYaml(source);
  } catch (cause) {
    throw new UsageError(
      command,
      'the configuration is neither YAML nor JSON',
      `${path}: ${(cause as Error).message}`,
      '',
      { cause },
    );
  }
  if (value === null || typeof value !== 'object' || Array.isArray(value))
    throw new UsageError(command, 'the configuration must hold options by name', path, 'learningRate: 2e-4');
  const allowed = optionsOf(command);
  const out: Raw = {};
  for (const [key, given] of Object.entries(value)) {
    const plain = camel(key);
    const off = camel(key.replace(/^no[-_]?/, '')).replace(/^./, (c) => c.toLowerCase()) as OptionName;
    const negated = !known.has(plain) && /^no/.test(key) && known.has(off) && isFlag(off);
    const name = (negated ? off : plain) as OptionName;
    if (!known.has(name))
      throw new UsageError(
        command,
        'unknown option',
        `${key} of ${path}`,
        `Did you mean ${nearest(plain, optionNames, 1)[0]}?`,
      );
    if (allowed.has(name) && given !== null && name !== 'config') out[name] = negated ? !given : given;
  }
  return out;
}

/** Options of a command, read and checked. Throws a {@link UsageError} that names what is wrong. */
export async function parseOptions(command: CommandName, argv: readonly string[]): Promise<Settings> {
  const typed = fromArguments(command, argv);
  const file = typed.config === undefined ? {} : await fromFile(command, String(typed.config));
  const raw: Raw = { ...file, ...typed };
  const values = Object.fromEntries(
    Object.entries(raw).map(([name, value]) => [name, typedValue(name as OptionName, value)]),
  );
  const parsed = schema.safeParse(values);
  if (!parsed.success) {
    const { path, message } = parsed.error.issues[0]!;
    const name = path[0] as OptionName;
    const shown = raw[name];
    throw new UsageError(
      command,
      `${flagOf(name)} ${message}`,
      typeof shown === 'string' ? shown : JSON.stringify(shown),
      factsOf(name).hint ?? '',
    );
  }
  const settings = parsed.data;
  const missing = commands[command].required.filter((name) => settings[name] === undefined);
  if (missing.length)
    throw new UsageError(
      command,
      `${missing.map(flagOf).join(' and ')} ${missing.length > 1 ? 'are' : 'is'} needed`,
      '',
      `For example: ${commands[command].examples[0]}`,
    );
  return settings;
}
