import { describe, expect, test } from 'vitest';
import { wgsl } from '../src/generated/wgsl.ts';
import { assemble } from '../src/gpu/source.ts';

const lines = (files: Record<string, string>, defines = {}) =>
  assemble(files, 'main', defines)
    .split('\n')
    .map((l) => l.trim())
    .filter(Boolean);

describe('shader assembly', () => {
  test('values replace names, innermost first', () => {
    expect(lines({ main: 'a$(N) b$(OF_$(N))' }, { N: 3, OF_3: 'x' })).toEqual(['a3 bx']);
  });

  test('branches: the first that holds is taken, in nested blocks too', () => {
    const main = [
      '#if A == 1 && B != x || C',
      'one',
      '#elif D < 4',
      'two',
      '#if !E',
      'two b',
      '#endif',
      '#else',
      'three',
      '#endif',
    ].join('\n');
    expect(lines({ main }, { A: 1, B: 'y' })).toEqual(['one']);
    expect(lines({ main }, { A: 1, B: 'x', D: 3 })).toEqual(['two', 'two b']);
    expect(lines({ main }, { C: true, E: true })).toEqual(['one']);
    expect(lines({ main }, { D: 5 })).toEqual(['three']);
  });

  test('loops repeat their lines, nested too', () => {
    const main = ['#for i in 0..2', 'a$(i)', '#for j in 1..$(N)', 'b$(i)$(j)', '#endfor', '#endfor'].join('\n');
    expect(lines({ main }, { N: 3 })).toEqual(['a0', 'b01', 'b02', 'a1', 'b11', 'b12']);
  });

  test('includes see their own arguments over the definitions of the includer', () => {
    const files = { main: '#define X 1\n#include "part" (N = q, Y = $(X))\n$(X)', part: '$(N)$(Y)$(X)$(Z)' };
    expect(lines(files, { Z: 'z' })).toEqual(['q11z', '1']);
  });

  test.each([
    ['$(NONE)', /name without a value: main: NONE/],
    ['#include "none"', /no such file: none/],
    ['#for i in 0..2', /#for without #endfor/],
    ['#else', /#else without #if/],
    ['#word', /unknown directive/],
  ])('%s is refused', (main, message) => {
    expect(() => lines({ main })).toThrow(message);
  });

  test('every kernel file is there as text', () => {
    expect(Object.keys(wgsl).length).toBeGreaterThan(40);
    expect(wgsl['matmul/matmul.wgsl']).toContain('#include "common/wgsl/tiles.wgsl"');
  });
});
