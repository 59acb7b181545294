import { LowrankError } from '@lowrank/kernels';

/** Names and values that a shader is assembled with. `true` reads as 1, `false` and absent names as 0. */
export type Defines = Readonly<Record<string, string | number | boolean>>;

interface Block {
  /** Lines of this branch are taken. */
  taking: boolean;
  /** An earlier branch was taken, or the block around it is not. */
  done: boolean;
}

/**
 * Assembles a shader from the `.wgsl` files. A line that starts with `#` is a directive:
 * `#include "path" (NAME = value, …)`, `#define NAME value`, `#if A == b && !C || D`, `#elif`, `#else`, `#endif`,
 * `#for i in 0..4` … `#endfor` (repeats its lines). `$(NAME)` is replaced by its value, innermost first, everywhere.
 */
export function assemble(files: Readonly<Record<string, string>>, path: string, defines: Defines): string {
  const names = new Map<string, string>();
  for (const [name, value] of Object.entries(defines)) names.set(name, text(value));
  const out: string[] = [];
  new Assembler(files, out).file(path, names);
  return out.join('\n');
}

function text(value: string | number | boolean): string {
  return value === true ? '1' : value === false ? '0' : String(value);
}

class Assembler {
  readonly #files: Readonly<Record<string, string>>;
  readonly #out: string[];

  constructor(files: Readonly<Record<string, string>>, out: string[]) {
    this.#files = files;
    this.#out = out;
  }

  file(path: string, names: Map<string, string>): void {
    const source = this.#files[path];
    if (source === undefined) throw new LowrankError('shader', 'no such file', path);
    this.lines(source.split('\n'), path, names);
  }

  lines(lines: readonly string[], path: string, names: Map<string, string>): void {
    const blocks: Block[] = [];
    for (let at = 0; at < lines.length; at++) {
      const line = lines[at]!;
      const taking = blocks.every((b) => b.taking);
      const directive = /^\s*#(\w+)\s*(.*?)\s*$/.exec(line);
      if (!directive) {
        if (taking) this.#out.push(substitute(line, names, path));
        continue;
      }
      const [, word, rest = ''] = directive;
      if (word === 'if') {
        const yes = taking && holds(substitute(rest, names, path), names);
        blocks.push({ taking: yes, done: yes || !taking });
      } else if (word === 'elif' || word === 'else') {
        const block = blocks.at(-1);
        if (!block) throw new LowrankError('shader', `#${word} without #if`, `${path}:${at + 1}`);
        block.taking = !block.done && (word === 'else' || holds(substitute(rest, names, path), names));
        block.done ||= block.taking;
      } else if (word === 'endif') blocks.pop();
      else if (word === 'for') {
        const end = matching(lines, at, path);
        if (taking) this.#repeat(substitute(rest, names, path), lines.slice(at + 1, end), path, names);
        at = end;
      } else if (!taking) continue;
      else if (word === 'define') {
        const [name, ...value] = substitute(rest, names, path).split(/\s+/);
        names.set(name!, value.join(' '));
      } else if (word === 'include') this.#include(substitute(rest, names, path), path, names);
      else throw new LowrankError('shader', 'unknown directive', `${path}:${at + 1}: ${line}`);
    }
  }

  #include(rest: string, path: string, names: Map<string, string>): void {
    const parts = /^"([^"]+)"\s*(?:\((.*)\))?$/.exec(rest);
    if (!parts) throw new LowrankError('shader', 'include not understood', `${path}: ${rest}`);
    const own = new Map(names);
    for (const pair of parts[2]?.split(',') ?? []) {
      const [name, value] = pair.split(/=(.*)/).map((s) => s.trim());
      own.set(name!, value ?? '');
    }
    this.file(parts[1]!, own);
  }

  #repeat(rest: string, body: readonly string[], path: string, names: Map<string, string>): void {
    const parts = /^(\w+) in (\d+)\.\.(\d+)$/.exec(rest);
    if (!parts) throw new LowrankError('shader', 'for not understood', `${path}: ${rest}`);
    for (let i = Number(parts[2]); i < Number(parts[3]); i++)
      this.lines(body, path, new Map(names).set(parts[1]!, String(i)));
  }
}

function matching(lines: readonly string[], from: number, path: string): number {
  let depth = 0;
  for (let at = from; at < lines.length; at++) {
    if (/^\s*#for\b/.test(lines[at]!)) depth++;
    else if (/^\s*#endfor\b/.test(lines[at]!) && --depth === 0) return at;
  }
  throw new LowrankError('shader', '#for without #endfor', `${path}:${from + 1}`);
}

function substitute(line: string, names: ReadonlyMap<string, string>, path: string): string {
  let now = line;
  while (now.includes('$(')) {
    const next = now.replace(/\$\((\w+)\)/g, (_, name: string) => {
      const value = names.get(name);
      if (value === undefined)
        throw new LowrankError('shader', 'name without a value', `${path}: ${name} in ${line.trim()}`);
      return value;
    });
    if (next === now) throw new LowrankError('shader', 'substitution not understood', `${path}: ${line.trim()}`);
    now = next;
  }
  return now;
}

/** `A == b`, `A != b`, `A < 3`, `!A`, `A`, joined by && and ||. The left side is a name. */
function holds(expression: string, names: ReadonlyMap<string, string>): boolean {
  return expression.split('||').some((any) => any.split('&&').every((term) => test(term.trim(), names)));
}

function test(term: string, names: ReadonlyMap<string, string>): boolean {
  const comparison = /^(\w+)\s*(==|!=|<|>)\s*(.+)$/.exec(term);
  if (!comparison) {
    const value = names.get(term.replace(/^!\s*/, '')) ?? '0';
    return (value !== '0' && value !== '') !== term.startsWith('!');
  }
  const [, name, sign, right] = comparison;
  const left = names.get(name!) ?? '0';
  if (sign === '==') return left === right;
  if (sign === '!=') return left !== right;
  return sign === '<' ? Number(left) < Number(right) : Number(left) > Number(right);
}
