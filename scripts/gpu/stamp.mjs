/**
 * Says of each line of a run's records what made it: node stamp.mjs FOLDER COMMIT COMMAND. Lines that have a `commit` are left as they are,
 * so that several runs may add to one folder. The GPU's fields are what nvidia-smi tells.
 */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';

const [folder, commit, command] = process.argv.slice(2);
const fields = ['name', 'driver_version', 'memory.total', 'clocks.sm', 'clocks.mem'];
let values = [];
try {
  const text = execFileSync('nvidia-smi', [`--query-gpu=${fields}`, '--format=csv,noheader'], { encoding: 'utf8' });
  values = text
    .split('\n')[0]
    .split(',')
    .map((v) => v.trim());
} catch {
  // no GPU here: the fields stay empty
}
const [gpu = '', driver = '', memory = '', sm = '', mem = ''] = values;
const machine = {
  gpu,
  driver,
  memory,
  clocks: `${sm}, ${mem} after`,
  cpu: `${cpus()[0]?.model ?? ''} × ${cpus().length}`,
};
const stamp = { commit: commit.slice(0, 12), at: new Date().toISOString(), ...machine, command };
for (const file of readdirSync(folder).filter((f) => f.endsWith('.jsonl'))) {
  const lines = readFileSync(join(folder, file), 'utf8').split('\n').filter(Boolean);
  const stamped = lines.map((line) => {
    const record = JSON.parse(line);
    return record.commit === undefined ? JSON.stringify({ ...record, ...stamp }) : line;
  });
  writeFileSync(join(folder, file), `${stamped.join('\n')}\n`);
}
