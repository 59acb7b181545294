/**
 * Writes the bundled instruction set: plain English requests and the JSON commands they stand for.
 *
 *     node bundled/generate-instructions.ts [--seed 7] [--train 2400] [--heldout 200] [--out bundled/instructions]
 *
 * Records are `{"prompt", "completion"}`, one a line; a prompt ends with a newline. The same options give the same bytes. No
 * prompt stands in both parts, and no command of two slots or more.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { RECIPES, type Draw, type Request } from './instruction-grammar.ts';

/** One line of the data set. */
export interface InstructionRecord {
  readonly prompt: string;
  readonly completion: string;
}

/** Random choices by the 32-bit mixer "mulberry32" (Tommy Ettinger, public domain): state += 0x6D2B79F5, then mix. */
export function createDraw(seed: number): Draw {
  let state = seed >>> 0;
  const uniform = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 15), z | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return ((z ^ (z >>> 14)) >>> 0) / 2 ** 32;
  };
  const int = (low: number, high: number): number => low + Math.floor(uniform() * (high - low + 1));
  return {
    int,
    pick: (values) => {
      const value = values[int(0, values.length - 1)];
      if (value === undefined) throw new RangeError('pick: a list may not be empty');
      return value;
    },
    chance: (probability) => uniform() < probability,
  };
}

/** A bare request as somebody might say it: with or without politeness, as a statement or a question. */
function say(draw: Draw, request: Request): string {
  const capital = (s: string): string => s.charAt(0).toUpperCase() + s.slice(1);
  const { words } = request;
  if (request.question === true) {
    const opening = draw.pick(['', '', '', 'tell me, ', 'hey, ']);
    return `${capital(opening + words)}?`;
  }
  const statement = /^(I |the |it |at )/.test(words);
  if (statement) return `${capital(draw.pick(['', '', 'hey, ', 'well, ']) + words)}.`;
  if (draw.chance(0.25)) return `${draw.pick(['Can you', 'Could you', 'Will you', 'Would you please'])} ${words}?`;
  const opening = draw.pick(['', '', '', 'please ', 'hey, ', 'now ', 'I want you to ']);
  const closing = opening === 'please ' ? '' : draw.pick(['', '', '', ', please', ', thanks']);
  return `${capital(opening + words)}${closing}.`;
}

/** Draws `count` records whose prompts are new to `prompts`, and whose commands, if of two slots or more, are not in `taken`. */
function generate(draw: Draw, count: number, prompts: Set<string>, taken: ReadonlySet<string>): InstructionRecord[] {
  const records: InstructionRecord[] = [];
  let misses = 0;
  while (records.length < count) {
    const request = draw.pick(RECIPES)(draw);
    const prompt = `${say(draw, request)}\n`;
    const completion = JSON.stringify(request.command);
    if (prompts.has(prompt) || (taken.has(completion) && Object.keys(request.command).length > 2)) {
      if (++misses > 100 * count) throw new Error(`generate: ${count} different records wanted: only ${records.length} found. Ask for fewer`);
      continue;
    }
    prompts.add(prompt);
    records.push({ prompt, completion });
  }
  return records;
}

function main(): void {
  const { values } = parseArgs({
    options: {
      seed: { type: 'string', default: '7' },
      train: { type: 'string', default: '2400' },
      heldout: { type: 'string', default: '200' },
      out: { type: 'string', default: 'bundled/instructions' },
    },
  });
  const draw = createDraw(Number(values.seed));
  const prompts = new Set<string>();
  // The held-out part is drawn first, so that it stays the same however many training records are asked for.
  const heldout = generate(draw, Number(values.heldout), prompts, new Set());
  const train = generate(draw, Number(values.train), prompts, new Set(heldout.map((r) => r.completion)));
  mkdirSync(values.out, { recursive: true });
  for (const [name, records] of Object.entries({ train, heldout })) {
    writeFileSync(join(values.out, `${name}.jsonl`), records.map((r) => `${JSON.stringify(r)}\n`).join(''));
  }
  console.log(`${values.out}: ${train.length} records to train on, ${heldout.length} held out`);
}

main();
