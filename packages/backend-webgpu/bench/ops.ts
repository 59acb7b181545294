/**
 * Times ops on the device and compares samples of their results with f64: node --conditions=source bench/ops.ts [name part …]
 *   --variants-only         every tile that the device can take         --no-matrix       no subgroup matrices
 *   --features=portable     or a list with commas                       --size=4096       smaller on slow devices
 *   --dawn=…                options of Dawn                             --out=FILE        appends JSON lines
 *   --variants-out=FILE     those of variants, and what failed
 */
import { parseArgs } from 'node:util';
import type { WebGpuFeature } from '../src/adapter.ts';
import { attention } from './attention.ts';
import { Bench } from './measure.ts';
import { products, quantized, thin } from './products.ts';
import { hostTime, rows } from './rows.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    'variants-only': { type: 'boolean', default: false },
    'no-matrix': { type: 'boolean', default: false },
    features: { type: 'string', default: 'auto' },
    size: { type: 'string', default: '4096' },
    dawn: { type: 'string', multiple: true },
    out: { type: 'string' },
    'variants-out': { type: 'string' },
  },
});
const features = ['auto', 'portable'].includes(values.features)
  ? (values.features as 'auto' | 'portable')
  : (values.features.split(',') as WebGpuFeature[]);
const bench = await Bench.open(
  { features, ...(values.dawn && { dawn: values.dawn }), matrices: !values['no-matrix'] },
  { kernels: values.out, variants: values['variants-out'] },
  positionals,
);
const n = Number(values.size);
const small = n < 4096;
/** Milliseconds that drivers are given at least to optimise what was compiled, and at most. */
const [optimising, patience] = [12e3, 35e3];
/** Where there are any. */
async function withoutMatrices(run: () => Promise<void>): Promise<void> {
  const { variants } = bench.launcher;
  const { matrix } = variants;
  if (!matrix) return;
  variants.matrix = undefined;
  await run();
  variants.matrix = matrix;
}
const all = async () => {
  bench.open = 0;
  // What promises most goes first: a limit may cut the rest.
  if (values['variants-only']) {
    await products(bench, n, 'matrix');
    await attention(bench, small, true);
    await quantized(bench, n, true);
    await products(bench, n, 'portable');
  } else {
    await products(bench, n);
    await withoutMatrices(() => products(bench, n, undefined, ['f16']));
    await quantized(bench, n, false);
    await attention(bench, small, false);
    await attention(bench, small, true);
    await rows(bench, n);
    await thin(bench, n);
  }
};
bench.pass = 'compile';
await all();
const compiled = performance.now();
bench.settlesFrom = compiled + optimising;
bench.pass = small ? 'last' : 'settle';
// The device's clocks are up then.
if (!small) await bench.warm(1000);
do {
  if (performance.now() - compiled > patience) bench.pass = 'last';
  await all();
} while (bench.open > 0);
if (!values['variants-only']) await hostTime(bench);
await bench.backend.close();
process.exit(0);
