import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type GgufValue, GgufWriter, MemorySink, serializeSafetensors } from '@lowrank/formats';
import { describe, expect, test } from 'vitest';
import { bundled, call, fewRecords, shortRun, temporary } from './cli.ts';

const folder = temporary();
const data = fewRecords(folder, 8);
let made = 0;
const output = () => join(folder, `out-${++made}`);
const file = (name: string, text: string | Uint8Array) => {
  writeFileSync(join(folder, name), text);
  return join(folder, name);
};

/** Runs what must fail; gives the message. Nothing may be left behind. */
async function refused(args: readonly string[], code = 1): Promise<string> {
  const done = await call(...args);
  expect(done.code, done.stderr + done.stdout).toBe(code);
  expect(done.stderr).not.toMatch(/\n\s+at /);
  return done.stderr;
}

describe('what is typed', () => {
  test('misspelt option and command: the nearest', async () => {
    expect(await refused(shortRun(data, output(), '--lora-alfa', '4'), 2)).toContain('Did you mean --lora-alpha?');
    expect(await refused(['trian'], 2)).toContain('Did you mean train?');
  });

  test('r = 0 and negative alpha', async () => {
    expect(await refused(shortRun(data, output(), '--r', '0'), 2)).toContain(
      '--r must be a whole number of at least 1: 0',
    );
    expect(await refused(shortRun(data, output(), '--lora-alpha', '-2'), 2)).toContain(
      '--lora-alpha must be above 0: -2',
    );
  });

  test('a target that matches nothing: nearest names, and no folder is begun', async () => {
    const out = output();
    const message = await refused(shortRun(data, out, '--target-modules', 'q_porj'));
    expect(message).toContain('matches nothing: "q_porj"');
    expect(message).toContain('q_proj');
    expect(existsSync(out)).toBe(false);
  });

  test('an output folder that is there', async () => {
    const out = output();
    mkdirSync(out);
    writeFileSync(join(out, 'precious.txt'), 'mine');
    const message = await refused(shortRun(data, out));
    expect(message).toContain('the folder is there and not empty');
    expect(message).toContain('--overwrite');
    expect(readdirSync(out)).toEqual(['precious.txt']);
    expect(await refused(['quantize', '--model', 'bundled', '--output', out, '--overwrite'])).toContain(
      'holds files of others: ',
    );
    expect(readFileSync(join(out, 'precious.txt'), 'utf8')).toBe('mine');
  });

  test('what is read is never replaced by what is written', async () => {
    const model = join(folder, 'own-model');
    cpSync(join(bundled, 'model'), model, { recursive: true, filter: (path) => !/README|LICENSE|NOTICE/.test(path) });
    const names = readdirSync(model);
    const reads = 'what is read lies in the folder to replace';
    expect(await refused([...shortRun(data, model, '--overwrite'), '--model', model])).toContain(reads);
    expect(await refused(['quantize', '--model', model, '--output', model, '--overwrite'])).toContain(reads);
    expect(readdirSync(model)).toEqual(names);

    const adapter = output();
    const trained = await call(...shortRun(data, adapter));
    expect(trained.code, trained.stderr).toBe(0);
    const held = readdirSync(adapter);
    const plain = ['--model', 'bundled', '--data', data, '--max-steps', '2', '--overwrite', '--output', adapter];
    for (const from of [adapter, join(adapter, 'checkpoint-2')])
      expect(await refused(['train', ...plain, '--adapter', from])).toContain(reads);
    expect(await refused(['merge', '--adapter', adapter, '--output', adapter, '--overwrite'])).toContain(reads);
    expect(readdirSync(adapter)).toEqual(held);

    // an option that the adapter's own folder answers is found before a run is begun
    const out = output();
    const message = await refused([...shortRun(data, out), '--adapter', adapter]);
    expect(message).toContain('the adapter that is loaded says this already: --r, --target-modules');
    expect(existsSync(out)).toBe(false);
    const full = ['train', '--model', 'bundled', '--method', 'full', '--data', data, '--output', out];
    expect(await refused([...full, '--adapter', adapter])).toContain('an adapter does not go with --method full');
  });

  test('options of 4-bit weights where none are made, and evaluation steps without held-out records', async () => {
    expect(await refused(shortRun(data, output(), '--quant-type', 'fp4'))).toContain('go with --method qlora');
    expect(await refused(shortRun(data, output(), '--eval-steps', '1'))).toContain('Give --eval-data, or leave out');
  });

  test('a resumed checkpoint that is not there', async () => {
    expect(await refused(shortRun(data, output(), '--resume', join(folder, 'checkpoint-9')))).toContain(
      'no checkpoint there',
    );
  });
});

describe('models', () => {
  test('a missing folder, and a folder without a model', async () => {
    expect(await refused(['generate', '--model', './not/there', 'x'])).toContain(
      'the folder or file is not there: ./not/there',
    );
    expect(await refused(['generate', '--model', folder, 'x'])).toContain('the folder holds no model');
  });

  test('a truncated safetensors file', async () => {
    const cut = join(folder, 'cut');
    cpSync(join(bundled, 'model'), cut, { recursive: true });
    truncateSync(join(cut, 'model.safetensors'), 1_000_000);
    const message = await refused(['generate', '--model', cut, 'x']);
    expect(message).toContain('model.safetensors');
    expect(message).toMatch(/1,?000,?000|truncated|past the end/i);
  });

  test('a GGUF of a type that cannot be read', async () => {
    const tokens = ['<unk>', '<s>', '</s>', 'a', 'b', 'c', 'd', 'e'];
    const u32 = (value: number) => ({ type: 'uint32' as const, value });
    const metadata = new Map<string, GgufValue>(
      Object.entries({
        'general.architecture': { type: 'string', value: 'llama' },
        'llama.block_count': u32(1),
        'llama.context_length': u32(64),
        'llama.embedding_length': u32(32),
        'llama.feed_forward_length': u32(32),
        'llama.attention.head_count': u32(2),
        'llama.attention.head_count_kv': u32(2),
        'llama.attention.layer_norm_rms_epsilon': { type: 'float32', value: 1e-5 },
        'llama.rope.dimension_count': u32(16),
        'tokenizer.ggml.model': { type: 'string', value: 'gpt2' },
        'tokenizer.ggml.pre': { type: 'string', value: 'smollm' },
        'tokenizer.ggml.tokens': { type: 'array', itemType: 'string', value: tokens },
        'tokenizer.ggml.token_type': { type: 'array', itemType: 'int32', value: Int32Array.from(tokens, () => 1) },
        'tokenizer.ggml.merges': { type: 'array', itemType: 'string', value: ['a b'] },
        'tokenizer.ggml.eos_token_id': u32(2),
      } satisfies Record<string, GgufValue>),
    );
    const sink = new MemorySink();
    const writer = new GgufWriter(sink, [{ name: 'token_embd.weight', type: 'IQ4_NL', shape: [8, 32] }], metadata);
    await writer.write('token_embd.weight', new Uint8Array(8 * 18));
    await writer.finish();
    const message = await refused(['generate', '--model', file('iq.gguf', sink.bytes), 'a']);
    expect(message).toContain('the GGUF tensor type cannot be read');
    expect(message).toContain('IQ4_NL');
    expect(message).toContain('Q8_0');
  });

  test('an adapter of another base: which shapes; a folder that holds none', async () => {
    const other = join(folder, 'other-base');
    mkdirSync(other);
    const key = 'base_model.model.model.layers.0.self_attn.q_proj';
    const tensor = (shape: number[]) => ({
      dtype: 'F32' as const,
      shape,
      data: new Float32Array(shape[0]! * shape[1]!),
    });
    const tensors = Object.fromEntries(
      Array.from({ length: 6 }, (_, i) => [
        [`${key.replace('layers.0', `layers.${i}`)}.lora_A.weight`, tensor([4, 576])],
        [`${key.replace('layers.0', `layers.${i}`)}.lora_B.weight`, tensor([576, 4])],
      ]).flat() as [string, ReturnType<typeof tensor>][],
    );
    writeFileSync(join(other, 'adapter_model.safetensors'), serializeSafetensors(tensors));
    writeFileSync(
      join(other, 'adapter_config.json'),
      JSON.stringify({ peft_type: 'LORA', r: 4, lora_alpha: 8, target_modules: ['q_proj'] }),
    );
    const message = await refused(['generate', '--model', 'bundled', '--adapter', other, 'x']);
    expect(message).toContain('shapes do not fit this model');
    expect(message).toContain(`${key}.lora_A.weight [4,576], expected [4,256]`);
    expect(message).toContain('another base');
    expect(await refused(['generate', '--adapter', join(bundled, 'model'), 'x'])).toContain(
      'It is a whole model: give it as --model',
    );
  });
});

describe('data', () => {
  const train = (path: string, ...more: string[]) => refused(shortRun(path, output(), ...more));

  test('a missing file, a broken line, a missing column', async () => {
    expect(await train(join(folder, 'none.jsonl'))).toContain('no such file');
    const empty = file('empty.jsonl', '\n');
    expect(await train(empty)).toContain(`the file holds no records: ${empty}`);
    const broken = file('broken.jsonl', '{"prompt":"a","completion":"b"}\n{"prompt":"a",\n');
    expect(await train(broken)).toMatch(
      /line is not JSON: .*broken\.jsonl.*line 2|line is not JSON: line 2.*broken\.jsonl/,
    );
    const columns = file('columns.jsonl', '{"question":"a","answer":"b"}\n{"question":"c"}\n');
    const message = await train(columns, '--prompt', '{question}\\n', '--completion', '{answer}');
    expect(message).toContain('column missing');
    expect(message).toContain('line 2');
    const misspelt = ['--prompt', '{qestion}', '--completion', '{answer}'];
    expect(await train(columns, ...misspelt)).toContain('Did you mean {question}?');
    // found before a model is loaded for nothing
    expect(await refused(['eval', '--model', 'bundled', '--data', columns, ...misspelt])).toMatch(
      /^data: column missing/,
    );
  });

  test('a sample of which nothing is learnt, and one that is too long', async () => {
    const masked = await train(data, '--max-length', '4');
    expect(masked).toContain('all its labels are masked');
    expect(masked).toContain('--on-masked drop');
    const long = file('long.jsonl', `${JSON.stringify({ prompt: 'word '.repeat(900), completion: 'x' })}\n`);
    const message = await train(long);
    expect(message).toContain('longer than the context of the model');
    expect(message).toContain('--max-length');
    expect(await train(data, '--max-length', '12', '--no-truncation')).toContain('longer than --max-length');
  });
});

describe('the run', () => {
  test('NaN in the loss: the step; with --detect-anomaly the op', async () => {
    const message = await refused(shortRun(data, output(), '--learning-rate', '1e38', '--max-steps', '4'));
    expect(message).toMatch(/is not finite: .* at step [234]/);
    expect(message).toContain('--detect-anomaly');
    const found = await refused(
      shortRun(data, output(), '--learning-rate', '1e38', '--max-steps', '4', '--detect-anomaly'),
    );
    expect(found).toMatch(/at step [234]; first in \w+: /);
  });

  test('not enough memory: what it takes, what to lower; nothing is begun', async () => {
    const out = output();
    const message = await refused(shortRun(data, out, '--memory', '12MiB'));
    expect(message).toMatch(/not enough memory: the run takes [\d.]+ MiB \(.*weights.*\), 12\.0 MiB are there\. /);
    expect(message).toContain('--method qlora');
    expect(existsSync(out)).toBe(false);
  });

  test('memory that ends while a model loads', async () => {
    const message = await refused([
      'eval',
      '--model',
      'bundled',
      '--data',
      data,
      '--memory',
      '6MiB',
      '--backend',
      'cpu',
    ]);
    expect(message).toContain('out of device memory');
    expect(message).toContain('weights');
  });

  test('a backend that is not there: why, and what is', async () => {
    const message = await refused(['generate', '--model', 'bundled', '--backend', 'cuda', 'x']);
    // where there is a GPU this cannot be seen
    if (!existsSync('/dev/nvidia0')) {
      expect(message).toContain('cuda is not there: ');
      // WebGPU stands before it where a program takes the part of a GPU
      expect(message).toMatch(/There: (webgpu \(.*\), )?cpu \(WebAssembly SIMD/);
    }
    expect(await refused(['generate', '--model', 'bundled', '--backend', 'cudda', 'x'])).toContain(
      'Did you mean cuda?',
    );
    expect(await refused(['generate', '--model', 'bundled', '--backend', './none.ts', 'x'])).toContain(
      'the module is not there',
    );
    const empty = file('empty.mjs', 'export const nothing = 1;\n');
    expect(await refused(['generate', '--model', 'bundled', '--backend', empty, 'x'])).toContain(
      'must have a default export',
    );
  });

  test('a full disk while saving: said so, and the checkpoint before is whole', async (context) => {
    if (spawnSync('unshare', ['-rm', 'true']).status !== 0) context.skip('no mount namespace for this user');
    const mount = join(folder, 'small-disk');
    mkdirSync(mount);
    const main = fileURLToPath(new URL('../src/main.ts', import.meta.url));
    const args = shortRun(
      data,
      join(mount, 'out'),
      '--r',
      '16',
      '--target-modules',
      'all-linear',
      '--max-steps',
      '4',
      '--save-steps',
      '1',
      '--save-total-limit',
      '9',
    );
    // room for the first checkpoints (adapter, and three times that for the optimizer), not for all
    const shell = 'mount -t tmpfs -o size=17m none "$1" && shift && { "$@"; code=$?; ls "$0"; exit $code; }';
    const done = spawnSync(
      'unshare',
      ['-rm', 'sh', '-c', shell, join(mount, 'out'), mount, process.execPath, '--conditions=source', main, ...args],
      { encoding: 'utf8' },
    );
    expect(done.status, done.stderr).toBe(1);
    expect(done.stderr).toContain('disk is full');
    expect(done.stdout).toContain('checkpoint-1');
    expect(done.stdout).not.toContain('checkpoint-4');
  });
});
