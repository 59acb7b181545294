import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { LowrankError } from '@lowrank/tensor';

/** The folder with the bundled model, its instruction set and the recipe: beside the built files, or in the repository. */
export function bundledFolder(): string {
  for (let at = dirname(fileURLToPath(import.meta.url)); ; at = dirname(at)) {
    const folder = join(at, 'bundled');
    if (existsSync(join(folder, 'model/config.json'))) return folder;
    if (dirname(at) === at)
      throw new LowrankError('model', 'the bundled model is not there', '', 'Install the package lowrank again');
  }
}
