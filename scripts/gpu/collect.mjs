/**
 * Puts the records of a run into benchmarks/records/: node scripts/gpu/collect.mjs FOLDER [NAME]. Each .jsonl of the folder becomes
 * <GPU>/<NAME>-<file>.jsonl; NAME is the day where it is not given. A file that is there is never written over.
 */
import { constants, copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const [folder, given] = process.argv.slice(2);
if (!folder || !existsSync(folder)) {
  console.error('collect: name the folder that a run left (out/)');
  process.exit(1);
}
const records = join(dirname(fileURLToPath(import.meta.url)), '../../benchmarks/records');
mkdirSync(records, { recursive: true });
const files = readdirSync(folder).filter((f) => f.endsWith('.jsonl'));
const first = files.length > 0 ? JSON.parse(readFileSync(join(folder, files[0]), 'utf8').split('\n')[0]) : {};
const slug = (text) => text.toLowerCase().replace(/[^a-z0-9]+/g, '-');
const to = join(records, slug(first.gpu || 'gpu'));
mkdirSync(to, { recursive: true });
const name = given ?? (first.at ?? 'unknown').slice(0, 10);
for (const file of files) copyFileSync(join(folder, file), join(to, `${name}-${file}`), constants.COPYFILE_EXCL);
console.log(`${files.length} records: ${to}/${name}-*.jsonl`);
