import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { commandNames, commands, optionsOf } from '../src/options/commands.ts';
import { messageOf } from '../src/options/error.ts';
import { commandHelp, generalHelp } from '../src/options/help.ts';
import { parseOptions } from '../src/options/parse.ts';
import { flagOf, kebab, optionNames } from '../src/options/schema.ts';
import { temporary } from './cli.ts';

const needed = ['--data', 'd.jsonl', '--output', 'o'];
const train = (...args: string[]) => parseOptions('train', [...needed, ...args]);
const folder = temporary();
const file = (name: string, text: string) => {
  writeFileSync(join(folder, name), text);
  return join(folder, name);
};

test('every kind of option is read', async () => {
  const settings = await train(
    '--r',
    '16',
    '--lora-alpha=32',
    '--learning-rate',
    '2e-4',
    '--no-shuffle',
    '--packing',
    '--target-modules',
    'q_proj, v_proj',
    '--layers-to-transform',
    '0,2',
    '--rank-pattern',
    'q_proj=4,v_proj=8',
    '--memory',
    '2GiB',
    '--adapter',
    'a',
    '--adapter',
    'b',
    '--resume',
  );
  expect(settings).toMatchObject({
    r: 16,
    loraAlpha: 32,
    learningRate: 2e-4,
    shuffle: false,
    packing: true,
    targetModules: ['q_proj', 'v_proj'],
    layersToTransform: [0, 2],
    rankPattern: { q_proj: 4, v_proj: 8 },
    memory: 2 ** 31,
    adapter: ['a', 'b'],
    resume: 'auto',
  });
});

test('templates take line breaks as shells hand them on; a regular expression keeps its commas', async () => {
  const settings = await train(
    '--prompt',
    '{question}\\n',
    '--completion',
    '{answer}',
    '--target-modules',
    'model\\.layers\\.\\d{1,2}\\.self_attn\\.q_proj',
  );
  expect(settings.prompt).toBe('{question}\n');
  expect(settings.targetModules).toEqual(['model\\.layers\\.\\d{1,2}\\.self_attn\\.q_proj']);
});

test('--resume takes a path or none', async () => {
  expect((await train('--resume', '--r', '4')).resume).toBe('auto');
  expect((await train('--resume', 'out/checkpoint-4')).resume).toBe('out/checkpoint-4');
});

test('a file gives options by either spelling; the command line wins', async () => {
  const yaml = file(
    'c.yaml',
    'data: x.jsonl\nlearning-rate: 1e-3\nloraAlpha: 8\nno-shuffle: true\ntargetModules: [q_proj, v_proj]\nmaxNewTokens: 9\nprompt: "{q}\\n"\n',
  );
  const settings = await parseOptions('train', ['--config', yaml, '--output', 'o', '--lora-alpha', '64']);
  expect(settings).toMatchObject({
    data: 'x.jsonl',
    learningRate: 1e-3,
    loraAlpha: 64,
    shuffle: false,
    targetModules: ['q_proj', 'v_proj'],
    prompt: '{q}\n',
  });
  const json = file('c.json', '{"data": "x.jsonl", "saveSteps": 4, "batch_size": 3}');
  // saveSteps is no option of eval: one file serves both
  expect(await parseOptions('eval', ['--config', json])).toMatchObject({ data: 'x.jsonl', batchSize: 3 });
});

test.each([
  [['--lerning-rate', '1'], 'unknown option: --lerning-rate. Did you mean --learning-rate?'],
  [['--top-k', '1'], 'the option belongs to another command: --top-k. It is known to generate, chat'],
  [['--r', '0'], '--r must be a whole number of at least 1: 0. Common ranks are 4 to 64'],
  [['--r', 'many'], '--r must be a whole number of at least 1: many'],
  [['--lora-alpha', '-16'], '--lora-alpha must be above 0: -16'],
  [['--lora-dropout', '1'], '--lora-dropout must be in [0, 1): 1'],
  [['--lr-scheduler', 'cosinus'], '--lr-scheduler must be linear, cosine or constant: cosinus'],
  [['--r'], '--r needs a value'],
  [['--r', '--packing'], '--r needs a value'],
  [['--packing=maybe'], '--packing takes no value'],
  [['--memory', 'lots'], '--memory must be a size such as 8GiB: lots'],
  [['--block-size', '48'], '--block-size must be a power of two from 32 to 4096: 48'],
  [['--block-size', 'abc'], '--block-size must be a power of two from 32 to 4096: abc'],
  [['--layers-to-transform', '1.5'], '--layers-to-transform must be whole numbers such as 0,1,2: 1.5'],
  [['--target-modules', ','], '--target-modules must be texts, none of them empty'],
  [['--rank-pattern', 'q_proj'], '--rank-pattern must be name=number pairs: q_proj'],
  [['-r', '4'], 'unknown option: -r'],
  [['stray'], 'what does this belong to?: stray'],
])('%j is refused', async (args, message) => {
  await expect(train(...args)).rejects.toThrow(message);
});

test('what is needed and what a file misspells is named', async () => {
  await expect(parseOptions('train', [])).rejects.toThrow('--data and --output are needed');
  await expect(parseOptions('train', ['--config', file('bad.yaml', 'lerningRate: 3')])).rejects.toThrow(
    'Did you mean learningRate?',
  );
  await expect(parseOptions('train', ['--config', file('list.yaml', '- a')])).rejects.toThrow(
    'must hold options by name',
  );
  await expect(parseOptions('train', ['--config', join(folder, 'none.yaml')])).rejects.toThrow('is not there');
});

test('every option belongs to a command and stands in its help', () => {
  const used = new Set(commandNames.flatMap((c) => [...optionsOf(c)]));
  expect(optionNames.filter((name) => !used.has(name))).toEqual([]);
  for (const command of commandNames) {
    const help = commandHelp(command);
    for (const name of optionsOf(command)) expect(help).toContain(kebab(name));
    expect(generalHelp()).toContain(commands[command].about);
  }
  expect(flagOf('gradientAccumulationSteps')).toBe('--gradient-accumulation-steps');
});

test('messages of the packages name options as they are typed', async () => {
  const { LowrankError } = await import('@lowrank/tensor');
  expect(messageOf(new LowrankError('data', 'too long', 'x', "Raise maxLength, or set onMasked: 'drop'"))).toBe(
    'data: too long: x. Raise --max-length, or set --on-masked drop',
  );
});
