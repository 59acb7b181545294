import { readFile } from 'node:fs/promises';

/** The version of this package; its package.json lies one folder up, in the sources as in what is published. */
export async function version(): Promise<string> {
  const text = await readFile(new URL('../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}
