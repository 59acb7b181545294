/**
 * Subgroup matrices in plain WGSL, for devices without them. An invocation keeps eight numbers of a result, half a row, and the row of a left
 * matrix, so a subgroup is 32 invocations side by side. Right matrices are where they were loaded from, and are read when they are multiplied.
 * Slow, but what a kernel loads, multiplies and stores is what it does on a device that has them. Matrices are 16 × 16. Arrays of f16 become
 * arrays of f32. Kernels name their local_invocation_index `id`.
 */
export function emulate(code: string): string {
  if (!code.includes('subgroup_matrix')) return code;
  const elements = new Map<string, string>();
  for (const [, name, element] of code.matchAll(/var<[^>]+>\s+(\w+): array<(vec4<u32>|f32|u32|f16)/g))
    elements.set(name!, element!);
  const helpers = new Map<string, string>();
  /** Where the right matrix of that name was loaded from. */
  const sources = new Map<string, { array: string; order: string }>();
  const read = (array: string) => helpers.set(`em_${array}`, reader(array, elements.get(array)!));
  const lines = code.split('\n').map((line) => {
    const operand =
      /^(\s*(?:let )?(\w+) = )subgroupMatrixLoad<subgroup_matrix_(left|right)<f16, 16, 16>, (row|col)_major>\(&(\w+), (.*)\);$/.exec(
        line,
      );
    if (operand) {
      const [, start, name, side, order, array, place] = operand as unknown as string[];
      read(array!);
      if (side === 'right') {
        sources.set(name!, { array: array!, order: order! });
        return `${start}vec2<u32>(${place});`;
      }
      const helper = `em_left_${array}_${order}`;
      helpers.set(helper, lefts(helper, array!, order!, unit(elements.get(array!)!)));
      return `${start}${helper}(${place});`;
    }
    const sum = /^(\s*\w+ = )subgroupMatrixMultiplyAccumulate\((\w+), (\w+), (\w+)\);$/.exec(line);
    if (sum) {
      const [, start, left, right, to] = sum;
      const { array, order } = sources.get(right!)!;
      const helper = `em_multiply_${array}_${order}`;
      helpers.set(helper, multiplier(helper, array, order, unit(elements.get(array)!)));
      return `${start}${helper}(${left}, ${right}, ${to});`;
    }
    const moved =
      /^(\s*)(?:(\w+ = )subgroupMatrixLoad<subgroup_matrix_result<f32, 16, 16>, row_major>|subgroupMatrixStore<row_major>)\(&(\w+), (.*)\);$/.exec(
        line,
      );
    if (moved) {
      const [, space, to = '', array, rest] = moved;
      const helper = `em_${to ? 'load' : 'store'}_${array}`;
      helpers.set(helper, mover(helper, array!, to !== ''));
      return `${space}${to}${helper}(${rest});`;
    }
    return line
      .replace(/subgroup_matrix_result<f32, 16, 16>/g, 'Result')
      .replace(/subgroup_matrix_left<f16, 16, 16>/g, 'Left')
      .replace(/array<f16,/g, 'array<f32,')
      .replace(/bitcast<vec2<f16>>\(/g, 'unpack2x16float(')
      .replace(/^\s*(enable (f16|chromium_experimental_subgroup_matrix)|diagnostic\(off, chromium\S+\));$/, '');
  });
  const plain = lines.join('\n').replace(/(fn main\([\s\S]*?\) \{)/, '$1\n  em_lane = id % 32u;');
  const left = /.*subgroup_?[mM]atrix.*/.exec(plain)?.[0];
  if (left) throw new Error(`emulate: not understood: ${left}`);
  return `${plain}
alias Result = array<f32, 8>;
alias Left = array<f32, 16>;
var<private> em_lane: u32;
${[...helpers.values()].join('\n')}`;
}

/** f16 in an element of an array. */
const unit = (element: string): number => ({ 'vec4<u32>': 8, u32: 2, f16: 1 })[element] ?? Number.NaN;

/** Number e of an array of f16. */
function reader(array: string, element: string): string {
  const word = element === 'vec4<u32>' ? `${array}[e >> 3u][(e >> 1u) & 3u]` : `${array}[e >> 1u]`;
  return `fn em_${array}(e: u32) -> f32 {
  return ${element === 'f16' ? `${array}[e]` : `unpack2x16float(${word})[e & 1u]`};
}`;
}

/** Where element [row, column] lies; `at` and `step` count elements of the array, of `per` numbers each. */
const place = (order: string, per: number, row: string, column: string) =>
  order === 'row' ? `(at + ${row} * step) * ${per}u + ${column}` : `(at + ${column} * step) * ${per}u + ${row}`;

function lefts(name: string, array: string, order: string, per: number): string {
  return `fn ${name}(at: u32, step: u32) -> Left {
  var m: Left;
  let row = em_lane / 2u;
  for (var k = 0u; k < 16u; k++) {
    m[k] = em_${array}(${place(order, per, 'row', 'k')});
  }
  return m;
}`;
}

function multiplier(name: string, array: string, order: string, per: number): string {
  return `fn ${name}(a: Left, b: vec2<u32>, c: Result) -> Result {
  var left = a;
  var sum = c;
  let at = b.x;
  let step = b.y;
  for (var k = 0u; k < 16u; k++) {
    for (var j = 0u; j < 8u; j++) {
      let column = em_lane % 2u * 8u + j;
      sum[j] += left[k] * em_${array}(${place(order, per, 'k', 'column')});
    }
  }
  return sum;
}`;
}

/** A result from or to an array of f32. */
function mover(name: string, array: string, load: boolean): string {
  const e = `${array}[at + em_lane / 2u * step + em_lane % 2u * 8u + j]`;
  return load
    ? `fn ${name}(at: u32, step: u32) -> Result {
  var m: Result;
  for (var j = 0u; j < 8u; j++) {
    m[j] = ${e};
  }
  return m;
}`
    : `fn ${name}(at: u32, m: Result, step: u32) {
  var values = m;
  for (var j = 0u; j < 8u; j++) {
    ${e} = values[j];
  }
}`;
}
