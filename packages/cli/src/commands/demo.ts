import type { Settings } from '../options/schema.ts';
import type { Console } from '../report/console.ts';
export async function demo(_s: Settings, _ui: Console): Promise<number> {
  return 0;
}
