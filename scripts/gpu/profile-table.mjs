/** Time by kernel from Nsight Compute's CSV with gpu__time_duration: node profile-table.mjs FILE. Same name and grid: one row. */
import { readFileSync } from 'node:fs';

const lines = readFileSync(process.argv[2], 'utf8').split('\n');
const cells = (line) => [...line.matchAll(/"((?:[^"]|"")*)"/g)].map((m) => m[1]);
const head = lines.findIndex((line) => line.startsWith('"ID"'));
const names = cells(lines[head] ?? '');
const at = Object.fromEntries(names.map((name, i) => [name, i]));
const rows = new Map();
const order = [];
for (const line of lines.slice(head + 1)) {
  const row = cells(line);
  if (row.length < names.length || row[at['Metric Name']] !== 'gpu__time_duration.sum') continue;
  const unit = { ns: 1e-3, nsecond: 1e-3, us: 1, usecond: 1, ms: 1e3, msecond: 1e3 }[row[at['Metric Unit']]] ?? 1e-3;
  const microseconds = Number(row[at['Metric Value']].replaceAll(',', '')) * unit;
  const name = `${row[at['Kernel Name']].replace(/\(.*/, '').slice(0, 110)} ${row[at['Grid Size']].replaceAll(' ', '')}`;
  const there = rows.get(name) ?? { count: 0, microseconds: 0 };
  there.count++;
  there.microseconds += microseconds;
  rows.set(name, there);
  order.push(`${microseconds.toFixed(1)} ${name}`);
}
const all = [...rows].sort((a, b) => b[1].microseconds - a[1].microseconds);
const total = all.reduce((sum, [, { microseconds }]) => sum + microseconds, 0);
console.log(`${order.length} launches, ${total.toFixed(0)} µs`);
for (const [name, { count, microseconds }] of all.slice(0, 60))
  console.log(
    `${microseconds.toFixed(1).padStart(10)} µs ${((microseconds / total) * 100).toFixed(1).padStart(5)} % ${String(count).padStart(4)} × ${(microseconds / count).toFixed(1).padStart(8)}  ${name}`,
  );
console.log(`\nIn order:\n${order.join('\n')}`);
