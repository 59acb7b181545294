/**
 * Subgroup matrices in plain WGSL, for devices without them. An invocation keeps eight numbers of a result: half a row, so a subgroup is 32
 * invocations side by side. Left and right matrices are where they were loaded from, and are read when they are multiplied. Slow, but what
 * a kernel loads, multiplies and stores is what it does on a device that has them. Matrices are 16 × 16; offsets and strides count elements
 * of the array, as `offsetUnit` and `strideUnit` 1 mean. Kernels name their local_invocation_index `id`.
 */
export function emulate(code: string): string {
  if (!code.includes('subgroup_matrix')) return code;
  const elements = new Map<string, string>();
  for (const [, name, element] of code.matchAll(/var<[^>]+>\s+(\w+): array<(vec4<u32>|f32|vec4<f32>)/g))
    elements.set(name!, element!);
  const helpers = new Map<string, string>();
  /** Where the operand of that name was loaded from. */
  const sources = new Map<string, { array: string; order: string }>();
  const lines = code.split('\n').map((line) => {
    const operand =
      /^(\s*let (\w+) = )subgroupMatrixLoad<subgroup_matrix_(?:left|right)<f16, 16, 16>, (row|col)_major>\(&(\w+), (.*)\);$/.exec(
        line,
      );
    if (operand) {
      const [, start, name, order, array, place] = operand;
      sources.set(name!, { array: array!, order: order! });
      return `${start}vec2<u32>(${place});`;
    }
    const sum = /^(\s*\w+ = )subgroupMatrixMultiplyAccumulate\((\w+), (\w+), (\w+)\);$/.exec(line);
    if (sum) {
      const [, start, left, right, to] = sum;
      const [a, b] = [sources.get(left!)!, sources.get(right!)!];
      const helper = `em_multiply_${a.array}_${a.order}_${b.array}_${b.order}`;
      helpers.set(helper, multiplier(helper, a, b));
      for (const { array } of [a, b]) helpers.set(`em_${array}`, reader(array, elements.get(array)!));
      return `${start}${helper}(${left}, ${right}, ${to});`;
    }
    const moved =
      /^(\s*)(?:(\w+ = )subgroupMatrixLoad<subgroup_matrix_result<f32, 16, 16>, row_major>|subgroupMatrixStore<row_major>)\(&(\w+), (.*)\);$/.exec(
        line,
      );
    if (moved) {
      const [, space, to = '', array, rest] = moved;
      const helper = `em_${to ? 'load' : 'store'}_${array}`;
      helpers.set(helper, mover(helper, array!, elements.get(array!)!, to !== ''));
      return `${space}${to}${helper}(${rest});`;
    }
    return line
      .replace(/subgroup_matrix_result<f32, 16, 16>/g, 'Result')
      .replace(/^\s*(enable (f16|chromium_experimental_subgroup_matrix)|diagnostic\(off, chromium\S+\));$/, '');
  });
  const plain = lines.join('\n').replace(/(fn main\([\s\S]*?\) \{)/, '$1\n  em_lane = id % 32u;');
  if (/subgroupMatrix|subgroup_matrix/.test(plain))
    throw new Error(`emulate: not understood: ${/.*subgroup_?[mM]atrix.*/.exec(plain)?.[0]}`);
  return `${plain}
alias Result = array<f32, 8>;
var<private> em_lane: u32;
${[...helpers.values()].join('\n')}`;
}

/** Number e of an array of f16 in words. */
const reader = (array: string, element: string): string => {
  if (element !== 'vec4<u32>') throw new Error(`emulate: ${array} has ${element}`);
  return `fn em_${array}(e: u32) -> f32 {
  return unpack2x16float(${array}[e >> 3u][(e >> 1u) & 3u])[e & 1u];
}`;
};

function multiplier(name: string, a: { array: string; order: string }, b: { array: string; order: string }): string {
  const at = (m: string, order: string, r: string, c: string) =>
    order === 'row' ? `(${m}.x + ${r} * ${m}.y) * 8u + ${c}` : `(${m}.x + ${c} * ${m}.y) * 8u + ${r}`;
  return `fn ${name}(a: vec2<u32>, b: vec2<u32>, c: Result) -> Result {
  var sum = c;
  let row = em_lane / 2u;
  for (var k = 0u; k < 16u; k++) {
    let x = em_${a.array}(${at('a', a.order, 'row', 'k')});
    for (var j = 0u; j < 8u; j++) {
      let column = em_lane % 2u * 8u + j;
      sum[j] += x * em_${b.array}(${at('b', b.order, 'k', 'column')});
    }
  }
  return sum;
}`;
}

function mover(name: string, array: string, element: string, load: boolean): string {
  const per = element === 'f32' ? 1 : 4;
  const e = `(at + em_lane / 2u * step) * ${per}u + em_lane % 2u * 8u + j`;
  const place = element === 'f32' ? `${array}[e]` : `${array}[e / 4u][e % 4u]`;
  const cast = element === 'vec4<u32>' ? (load ? 'bitcast<f32>' : 'bitcast<u32>') : '';
  return load
    ? `fn ${name}(at: u32, step: u32) -> Result {
  var m: Result;
  for (var j = 0u; j < 8u; j++) {
    let e = ${e};
    m[j] = ${cast}(${place});
  }
  return m;
}`
    : `fn ${name}(at: u32, m: Result, step: u32) {
  var values = m;
  for (var j = 0u; j < 8u; j++) {
    let e = ${e};
    ${place} = ${cast}(values[j]);
  }
}`;
}
