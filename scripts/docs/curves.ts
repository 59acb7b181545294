/**
 * Draws the curves of docs/guide/lora.md from their records: node scripts/docs/curves.ts. Each record is one evaluation of one run of
 * `lowrank train --model bundled --method qlora …` (the README beside the records has the command).
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

interface Point {
  readonly run: string;
  readonly step: number;
  readonly loss: number;
}

const root = join(import.meta.dirname, '../..');
const points: Point[] = readFileSync(join(root, 'benchmarks/records/nvidia-h200/2026-11-22-curves.jsonl'), 'utf8')
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line));

const panels: readonly (readonly [title: string, runs: Readonly<Record<string, string>>])[] = [
  ['rank (alpha = 2r)', { r1: 'r 1', r4: 'r 4', r16: 'r 16', r64: 'r 64' }],
  ['alpha (r 16)', { alpha4: '4', r16: '32', alpha128: '128', alpha512: '512' }],
  ['dropout (r 16)', { r16: '0', drop01: '0.1', drop05: '0.5' }],
  ['learning rate (r 16)', { lr1e4: '1e-4', r16: '1e-3', lr4e3: '4e-3', lr3e2: '3e-2' }],
];
const colours = ['#7aa6e8', '#2f6fdf', '#e0703a', '#5b9c4a'];
const [width, height, left, top] = [380, 230, 44, 30];
const [lowest, highest, lastStep] = [0.03, 6, 150];
const x = (step: number) => left + (step / lastStep) * (width - left - 70);
const y = (loss: number) =>
  top +
  (Math.log(highest / Math.min(Math.max(loss, lowest), highest)) / Math.log(highest / lowest)) * (height - top - 30);

function panel([title, runs]: (typeof panels)[number], at: number): string {
  const lines = Object.entries(runs).map(([run, label], i) => {
    const own = points.filter((p) => p.run === run);
    const path = own.map((p, k) => `${k ? 'L' : 'M'}${x(p.step).toFixed(1)} ${y(p.loss).toFixed(1)}`).join('');
    const end = own.at(-1)!;
    return `<path d="${path}" fill="none" stroke="${colours[i]}" stroke-width="2"/><text x="${width - 64}" y="${(top + 14 + 16 * i).toFixed(0)}" fill="${colours[i]}">${label}: ${end.loss.toFixed(2)}</text>`;
  });
  const grid = [0.1, 1].map(
    (v) => `<path d="M${left} ${y(v)}H${width - 70}" stroke="#9994"/><text x="8" y="${y(v) + 4}">${v}</text>`,
  );
  return `<g transform="translate(${(at % 2) * width} ${Math.floor(at / 2) * height})"><text x="${left}" y="18" font-weight="600">${title}</text>${grid.join('')}${lines.join('')}<text x="${left}" y="${height - 10}">step 15</text><text x="${width - 110}" y="${height - 10}">150</text></g>`;
}

writeFileSync(
  join(root, 'docs/guide/curves.svg'),
  `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${2 * width} ${2 * height}" font-family="system-ui, sans-serif" font-size="12" fill="#808890"><title>Loss by setting</title>${panels.map(panel).join('')}</svg>\n`,
);
