/**
 * Draws who imports whom, from the sources, into docs/internals/architecture.md.
 *
 *   node scripts/docs/diagram.ts --write
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readGraph } from '../check/graph.ts';
import { root } from '../workspace.ts';

const page = 'docs/internals/architecture.md';
const begin = '<!-- diagram: made by `pnpm diagram`, do not edit -->';
const end = '<!-- /diagram -->';

/** Packages and the arrows between them that shipped sources have; an arrow that a longer way implies is left out. */
export function drawMermaid(): string {
  const { files } = readGraph();
  const arrows = new Map<string, Set<string>>();
  for (const { member, kind, imports } of files.values()) {
    if (kind !== 'source' || member.manifest.private) continue;
    const to = arrows.get(member.room) ?? new Set();
    arrows.set(member.room, to);
    for (const { target } of imports) {
      const other = target && files.get(target)?.member;
      if (other && other.room !== member.room) to.add(other.room);
    }
  }
  const reaches = (from: string, goal: string): boolean =>
    [...(arrows.get(from) ?? [])].some((next) => next === goal || reaches(next, goal));
  const lines = [...arrows.keys()].sort().map((room) => `  ${room}`);
  for (const [from, to] of [...arrows].sort()) {
    for (const goal of [...to].sort()) {
      const implied = [...to].some((next) => next !== goal && reaches(next, goal));
      if (!implied) lines.push(`  ${from} --> ${goal}`);
    }
  }
  return ['```mermaid', 'flowchart TD', ...lines, '```'].join('\n');
}

/** The page with the diagram of the sources as they are. Throws where the page lacks the two marks. */
function redraw(text: string): string {
  const [from, to] = [text.indexOf(begin), text.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`diagram: ${page} lacks its marks. Put back "${begin}" and "${end}"`);
  return `${text.slice(0, from + begin.length)}\n\n${drawMermaid()}\n\n${text.slice(to)}`;
}

/** Is the diagram in the page the one that the sources give? */
export function lint(): string[] {
  const text = readFileSync(join(root, page), 'utf8');
  return redraw(text) === text ? [] : [`${page}:1: the diagram is not that of the sources. Run: pnpm diagram`];
}

if (process.argv.includes('--write')) {
  const path = join(root, page);
  writeFileSync(path, redraw(readFileSync(path, 'utf8')));
}
