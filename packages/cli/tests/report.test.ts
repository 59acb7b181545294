import { expect, test, vi } from 'vitest';
import { chart, smooth } from '../src/report/chart.ts';
import { bytes, duration, ownCommand, parseBytes, shell, table } from '../src/report/format.ts';
import { htmlReport } from '../src/report/html.ts';
import { bar } from '../src/report/progress.ts';

test.each([
  ['8GiB', 2 ** 33],
  ['512 MiB', 2 ** 29],
  ['8G', 2 ** 33],
  ['1.5GB', 1.5e9],
  ['4096', 4096],
  ['7 b', 7],
  ['8 gigs', undefined],
  ['', undefined],
])('%j is %d bytes', (text, expected) => {
  expect(parseBytes(text)).toBe(expected);
});

test('figures are written for people', () => {
  expect([bytes(0), bytes(1536), bytes(12.5 * 2 ** 20), bytes(3 * 2 ** 30)]).toEqual([
    '0 B',
    '1.50 KiB',
    '12.5 MiB',
    '3.00 GiB',
  ]);
  expect([duration(12), duration(245), duration(3723)]).toEqual(['12 s', '4:05', '1:02:03']);
  expect(shell(['a', "it's", 'b c'])).toBe("a 'it'\\''s' 'b c'");
  expect(
    table(
      [
        ['a', '1'],
        ['bcd', '22'],
      ],
      '',
    ),
  ).toBe('a      1\nbcd   22');
  expect([bar(0, 4), bar(0.5, 4), bar(1, 4)]).toEqual(['░░░░', '██░░', '████']);
});

test('a command to type next is named as this one was', () => {
  for (const [variable, expected] of [
    ['exec', "npx lowrank generate 'a b'"],
    ['', "lowrank generate 'a b'"],
  ] as const) {
    vi.stubEnv('npm_command', variable);
    expect(ownCommand('generate', 'a b')).toBe(expected);
  }
  vi.unstubAllEnvs();
});

test('a falling line runs from the upper left to the lower right', () => {
  const lines = chart(
    [
      { x: 1, y: 4 },
      { x: 9, y: 2 },
    ],
    { width: 8, height: 4, label: 'loss' },
  ).split('\n');
  expect(lines[0]!.trim()).toBe('loss');
  expect(lines[1]).toMatch(/4\.00 ┤[⠁-⣿]/);
  expect(lines[4]).toMatch(/2\.00 ┤.*[⠁-⣿]$/);
  expect(lines.at(-1)!.trim()).toMatch(/^1\s+9$/);
  expect(chart([{ x: 1, y: 1 }])).toBe('');
});

test('a running mean takes the last values', () => {
  expect(
    smooth(
      [4, 2, 6].map((y, x) => ({ x, y })),
      2,
    ).map((p) => p.y),
  ).toEqual([4, 3, 4]);
});

test('the report is one file that needs no other, and text cannot leave its place', async () => {
  const step = {
    event: 'step',
    step: 1,
    loss: 2,
    gradNorm: 1,
    learningRate: 1e-3,
    tokensPerSecond: 10,
    seconds: 1,
    epoch: 0,
    tokens: 3,
    inputTokens: 5,
    memoryBytes: 10,
    peakMemoryBytes: 20,
  } as const;
  const html = await htmlReport({
    title: '<script>alert(1)</script>',
    facts: [['loss', '2']],
    settings: [['model', '</script><b>']],
    metrics: [
      step,
      { ...step, step: 2, loss: 1 },
      { event: 'evaluation', step: 2, loss: 1.5, epoch: 1, best: true, perplexity: 4.5, tokens: 9, samples: 3 },
    ],
    samples: [{ where: '', promptIds: [], prompt: 'p', expected: 'e', before: '<i>', after: 'a' }],
  });
  expect(html).not.toContain('<script>alert');
  expect(html).not.toContain('</script><b>');
  expect(html).not.toMatch(/(src|href)=/);
  expect(html).not.toMatch(/url\(\s*['"]?http/);
  const { charts } = JSON.parse(/<script type="application\/json" id="data">(.*)<\/script>/.exec(html)![1]!);
  expect(charts[0].data).toEqual([
    [1, 2],
    [2, 1],
    [2, 1],
    [null, 1.5],
  ]);
  expect(charts.map((c: { title: string }) => c.title)).toEqual([
    'Loss',
    'Learning rate',
    'Tokens a second',
    'Norm of the gradients',
    'Device memory, MiB',
  ]);
});
