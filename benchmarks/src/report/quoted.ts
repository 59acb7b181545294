/** Steps of Python stacks that were measured on such a machine outside the harness, beside the newest of ours. */
import type { QuotedLine } from '../gpu-lines.ts';
import { digits } from './format.ts';
import { markdown } from './markdown.ts';
import type { Step } from './steps.ts';

/** Is a step the work of a quoted line? What is made again, and how, is each library's own business: `selective` stands in both places. */
export function sameWork(name: string, { method, model, batch, length, checkpointing }: QuotedLine): boolean {
  const found = /^(.*) r 16 recompute (none|block|selective)( offload)?$/.exec(name);
  return found?.[1] === `${method} ${model} ${batch}×${length}` && found[2] !== (checkpointing ? 'none' : 'block');
}

const range = ([low, high]: QuotedLine['tokensPerSecond']) =>
  low === high ? digits(low) : `${digits(low)}–${digits(high)}`;
const workOf = (q: QuotedLine) =>
  `${q.method} ${q.model} ${q.batch}×${q.length}, ${q.checkpointing ? 'checkpointing' : 'none'}`;

export interface Beside {
  readonly text: string;
  readonly losses: readonly string[];
}

/** Tokens a second and peak memory, a row a piece of work; where a quoted figure is better than all of ours. */
export function besideQuoted(quoted: readonly QuotedLine[], steps: readonly Step[]): Beside {
  const clients = [...new Set(quoted.map((q) => q.client))];
  const losses: string[] = [];
  const rows = [...Map.groupBy(quoted, workOf)].flatMap(([work, lines]) => {
    const ours = steps.filter(
      ({ now }) => now.kind === 'backend' && now.on.startsWith('cuda') && sameWork(now.name, lines[0]!),
    );
    if (!ours.length) return [];
    const cell = (tokens: string, gib: number) => `${tokens} · ${digits(gib)}`;
    const best = Math.max(...ours.map(({ now }) => now.tokensPerSecond));
    const least = Math.min(...ours.map(({ now }) => now.peakBytes! / 2 ** 30));
    for (const q of lines) {
      if (q.tokensPerSecond[1] > best)
        losses.push(`- ${work}: ${digits(best)} tokens/s, ${q.client} was measured with ${range(q.tokensPerSecond)}.`);
      if (q.peakGiB < least)
        losses.push(`- ${work}: peak ${digits(least)} GiB, ${q.client} was measured with ${digits(q.peakGiB)} GiB.`);
    }
    return [
      [
        work,
        ours
          .map(({ now }) => {
            const how = / recompute (.*)$/.exec(now.name)![1]!;
            return `${cell(digits(now.tokensPerSecond), now.peakBytes! / 2 ** 30)}${ours.length > 1 ? ` (${how})` : ''}`;
          })
          .join('<br>'),
        ...clients.map((c) => {
          const q = lines.find((l) => l.client === c);
          return q ? cell(range(q.tokensPerSecond), q.peakGiB) : '';
        }),
      ],
    ];
  });
  const sources = [...new Set(quoted.map((q) => `${q.source} (${q.at})`))];
  return {
    text: rows.length
      ? `Tokens a second · peak GiB. The right-hand columns are not of the same run: ${sources.join('; ')}.\n\n${markdown(['work', 'lowrank', ...clients], rows)}`
      : '',
    losses,
  };
}
