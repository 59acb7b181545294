import { defineConfig } from 'tsup';
import base from '../../tsup.base.ts';

export default defineConfig({ ...base, platform: 'node', entry: { ...base.entry, main: 'src/main.ts' } });
