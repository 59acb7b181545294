import { LowrankError } from '@lowrank/tensor';
import { flagOf, optionNames } from './schema.ts';

/** What was typed cannot be meant. The process ends with code 2. */
export class UsageError extends LowrankError {}

const names = new Set<string>(optionNames.filter((n) => /[A-Z]/.test(n)));

/** Options as the command line writes them, in a message of a package that knows their camelCase names. */
function asFlags(text: string): string {
  return text.replace(
    /\b([a-z]+[A-Z]\w*)(: '(\w+)'| = (\w+)|: (false))?/g,
    (whole, name: string, _rest, quoted?: string, plain?: string, off?: string) => {
      if (!names.has(name)) return whole;
      if (off) return flagOf(`no-${name}`);
      return `${flagOf(name)}${quoted || plain ? ` ${quoted ?? plain}` : ''}`;
    },
  );
}

/** An error for people: one line, or with the stack where it is a fault of ours. */
export function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error.name === 'LowrankError' || error.name === 'FormatError') return asFlags(error.message);
  return process.env.DEBUG ? (error.stack ?? error.message) : `${error.name}: ${error.message}`;
}
