import { cpSync } from 'node:fs';
import { defineConfig } from 'tsup';
import base from '../../tsup.base.ts';

export default defineConfig({
  ...base,
  platform: 'node',
  // optional dependencies too are found at run time
  external: [...base.external, /^@lowrank\//],
  entry: { ...base.entry, main: 'src/main.ts' },
  // The demo needs the bundled model, its instruction set and the recipe: they travel with the package.
  onSuccess: async () => {
    for (const name of ['model', 'instructions', 'recipe.json'])
      cpSync(`../../bundled/${name}`, `dist/bundled/${name}`, { recursive: true });
  },
});
