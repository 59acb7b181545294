// Writes what kernels include from the one place where it is defined: rows of elementwise functions, bounds of the 4-bit codes.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { binaryOps } from '../../../kernels/binary/table.ts';
import { fp4Bounds, fp4Codes, nf4Bounds } from '../../../kernels/common/codebooks.ts';
import { unaryOps } from '../../../kernels/unary/table.ts';

/** The same expression on f64, for integers: names without the f, literals without the f. */
const inDouble = (text) =>
  text
    .replace(/\b([a-z]+)f\(/g, '$1(')
    .replace(/(\d)\.f/g, '$1.0')
    .replace(/(\d\.\d+)f/g, '$1');

function cases(rows, keep, render) {
  return Object.entries(rows)
    .map(([, row], code) => (keep(row) ? ` X(${code}, (${render(row.cuda)}))` : ''))
    .join('');
}

const literal = (v) => (Number.isInteger(v) ? `${v}.f` : `${Math.fround(v).toPrecision(9)}f`);
const floats = (values) => values.map(literal).join(', ');

/** Writes the include files into `folder`; leaves files that are right as they are. */
export function generate(folder) {
  mkdirSync(folder, { recursive: true });
  const write = (name, text) => {
    const path = join(folder, name);
    if (!existsSync(path) || readFileSync(path, 'utf8') !== text) writeFileSync(path, text);
  };
  write(
    'elementwise.inc',
    `// Made from kernels/unary/table.ts and kernels/binary/table.ts; do not edit. X(code, expression)
#define UNARY_FLOAT(X)${cases(
      unaryOps,
      () => true,
      (e) => e,
    )}
#define UNARY_INTEGER(X)${cases(unaryOps, (r) => r.integers, inDouble)}
#define BINARY_FLOAT(X)${cases(
      binaryOps,
      (r) => r.kind !== 'bits',
      (e) => e,
    )}
#define BINARY_INTEGER(X)${cases(binaryOps, (r) => r.kind !== 'bits', inDouble)}
#define BINARY_BITS(X)${cases(
      binaryOps,
      (r) => r.kind === 'bits',
      (e) => e,
    )}
`,
  );
  write(
    'codebooks.inc',
    `// Made from kernels/common/codebooks.ts; do not edit.
static __device__ const float nf4Bounds[15] = {${floats(nf4Bounds)}};
static __device__ const float fp4Bounds[15] = {${floats(fp4Bounds)}};
static __device__ const unsigned char fp4Codes[16] = {${fp4Codes.join(', ')}};
`,
  );
}
