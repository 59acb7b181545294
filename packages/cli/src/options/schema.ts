import { z } from 'zod';

/** What help and messages say of an option. */
export interface OptionFacts {
  /** Of a flag that is on by default: what its `--no-…` form does. */
  readonly help: string;
  /** Placeholder of its value: `<path>`. Flags have none. */
  readonly value?: string;
  /** What counts where it is not given. */
  readonly default?: string;
  /** Said after an error. */
  readonly hint?: string;
  /** How the command line's text becomes a value. */
  readonly kind: 'text' | 'template' | 'number' | 'flag' | 'list' | 'numbers' | 'pairs' | 'bytes';
}

const facts = new WeakMap<z.ZodType, OptionFacts>();

function option<S extends z.ZodType>(schema: S, about: OptionFacts): z.ZodOptional<S> {
  const optional = schema.optional();
  facts.set(optional, about);
  return optional;
}

type About = Omit<OptionFacts, 'kind' | 'help'>;
const text = (help: string, value: string, more: About = {}) =>
  option(z.string('must be a text').min(1, 'must not be empty'), { help, value, kind: 'text', ...more });
const template = (help: string, value: string, more: About = {}) =>
  option(z.string('must be a text'), { help, value, kind: 'template', ...more });
const flag = (help: string, more: About = {}) =>
  option(z.boolean('must be true or false'), { help, kind: 'flag', ...more });
const texts = 'must be texts, none of them empty';
const list = (help: string, value: string, more: About = {}) =>
  option(z.array(z.string(texts).min(1, texts), texts).min(1, texts), { help, value, kind: 'list', ...more });
const whole = (help: string, least: number, more: About = {}) => {
  const rule = `must be a whole number of at least ${least}`;
  return option(z.number(rule).int(rule).min(least, rule), { help, value: '<n>', kind: 'number', ...more });
};
const above0 = (help: string, more: About = {}) =>
  option(z.number('must be a number').positive('must be above 0'), { help, value: '<x>', kind: 'number', ...more });
const atLeast0 = (help: string, more: About = {}) =>
  option(z.number('must be a number').min(0, 'must not be negative'), { help, value: '<x>', kind: 'number', ...more });
const share = (help: string, more: About = {}) =>
  option(z.number('must be a number').min(0, 'must be in [0, 1)').lt(1, 'must be in [0, 1)'), {
    help,
    value: '<p>',
    kind: 'number',
    ...more,
  });
const choice = <const T extends readonly [string, ...string[]]>(help: string, values: T, more: About = {}) =>
  option(z.enum(values, `must be ${values.slice(0, -1).join(', ')} or ${values.at(-1)}`), {
    help,
    value: values.join('|'),
    kind: 'text',
    ...more,
  });
const namedNumbers = 'must be name=number pairs';
const pairs = (help: string, more: About = {}) =>
  option(z.record(z.string(), z.number(namedNumbers).positive('must hold numbers above 0'), namedNumbers), {
    help,
    value: '<name=n,…>',
    kind: 'pairs',
    ...more,
  });

const wholeNumbers = 'must be whole numbers such as 0,1,2';
const wholeNumber = z.number(wholeNumbers).int(wholeNumbers).min(0, wholeNumbers);

/** Every option there is, by its name in configuration files; on the command line `loraAlpha` is `--lora-alpha`. */
export const schema = z.object({
  // model
  model: text('base model: a folder, a .gguf file, a hub id, or "bundled"', '<path|id>'),
  revision: text('branch, tag or commit of a hub id', '<name>', { default: 'main' }),
  adapter: list('PEFT adapter folder (several: their updates add up); with train, the adapter to go on from', '<path>'),
  method: choice(
    'full: all weights; lora: adapters on the base as it is; qlora: on the base in 4 bits',
    ['lora', 'qlora', 'full'],
    {
      default: 'lora; for an adapter, what it was trained with',
    },
  ),
  dtype: choice('weights and arithmetic', ['auto', 'f32', 'bf16', 'f16'], {
    default: 'auto: weights as stored, arithmetic as the backend prefers',
  }),
  quantType: choice('codebook of 4-bit weights', ['nf4', 'fp4'], { default: 'nf4' }),
  blockSize: option(
    z
      .number('must be a power of two from 32 to 4096')
      .refine((n) => n >= 32 && n <= 4096 && Number.isInteger(Math.log2(n)), 'must be a power of two from 32 to 4096'),
    { help: 'elements that share a scale', value: '<n>', kind: 'number', default: '64' },
  ),
  doubleQuant: flag('keep the scales in f32', { default: 'on' }),
  // data
  data: text('records: .jsonl, .json, .csv, .tsv or .parquet', '<path>'),
  evalData: text('held-out records', '<path>'),
  evalRows: whole('hold out the last rows of --data instead', 1),
  prompt: template("template over columns ('{question}\\n'); with generate, the prompt itself", '<text>'),
  completion: template("template over columns ('{answer}')", '<text>'),
  text: template('template of plain text, all of which is learnt', '<text>'),
  maxLength: whole('samples are cut at so many tokens', 2, {
    default: "none; a sample longer than the model's context is an error",
  }),
  truncation: flag('a longer sample is an error', { default: 'on' }),
  lossOn: choice('what is learnt', ['completion', 'last', 'all'], { default: 'completion' }),
  onMasked: choice('a sample of which nothing would be learnt', ['error', 'drop'], { default: 'error' }),
  appendEos: flag('no end token after completions', { default: 'on' }),
  // adapter
  r: whole('rank of the update', 1, { default: '8', hint: 'Common ranks are 4 to 64' }),
  loraAlpha: above0('the update is scaled by alpha / r', { default: '2·r', hint: 'Common choices are r or 2·r' }),
  loraDropout: share("dropout of the adapters' input", { default: '0' }),
  targetModules: list('names, one regular expression, or all-linear', '<names>', { default: 'all-linear' }),
  excludeModules: list('never adapted', '<names>'),
  bias: choice('which biases are trained', ['none', 'all', 'lora_only'], { default: 'none' }),
  useRslora: flag('scale by alpha / √r', { default: 'off' }),
  rankPattern: pairs('other ranks by module'),
  alphaPattern: pairs('other alphas by module'),
  layersToTransform: option(z.array(wholeNumber, wholeNumbers), {
    help: 'only these layers',
    value: '<n,…>',
    kind: 'numbers',
  }),
  modulesToSave: list('modules trained whole, as copies', '<names>'),
  initLoraWeights: choice('how A begins; B is zero', ['kaiming', 'gaussian'], { default: 'kaiming' }),
  trainable: list('with --method full: patterns of parameter names to train', '<patterns>', { default: 'all' }),
  // training
  output: text('folder to write', '<path>'),
  overwrite: flag('replace what an earlier run left in --output', { default: 'off' }),
  resume: text('go on from a checkpoint: a path, or the latest of --output', '[path|auto]'),
  batchSize: whole('rows of a batch', 1, { default: '8' }),
  gradientAccumulationSteps: whole('batches a step', 1, { default: '1' }),
  maxSteps: whole('steps in all, whatever the epoch', 1),
  numEpochs: above0('passes over the data', { default: '3, unless --max-steps is given' }),
  learningRate: atLeast0('', { default: '2e-4; 2e-5 with --method full' }),
  lrScheduler: choice('', ['linear', 'cosine', 'constant'], { default: 'linear' }),
  warmupSteps: atLeast0('steps over which the rate rises from 0; below 1 a share of all', { default: '0' }),
  weightDecay: atLeast0('', { default: '0' }),
  maxGradNorm: atLeast0('gradients are scaled down to this norm; 0: they are not', { default: '1' }),
  optimizer: choice('', ['adamw', 'sgd'], { default: 'adamw' }),
  seed: whole('order of the data, first adapter weights, dropout, sampling', 0, { default: '0' }),
  shuffle: flag('the order of the file, every epoch', { default: 'on' }),
  groupByLength: flag('batches of about one length', { default: 'off' }),
  packing: flag('several samples in a row, without attention between them', { default: 'off' }),
  recompute: choice('what the backward pass makes again instead of keeping it', ['none', 'selective', 'block'], {
    default: 'none',
  }),
  offload: flag('what is kept for the backward pass waits in host memory, on devices that can', { default: 'off' }),
  chunkRows: whole('rows whose logits exist at a time', 1, { default: 'as many as take 64 MiB' }),
  evalSteps: whole('evaluate every so many steps', 1, { default: 'at the end alone' }),
  evalBatchSize: whole('rows of an evaluation batch', 1, { default: '--batch-size' }),
  saveSteps: whole('checkpoint every so many steps', 1, { default: 'at the end alone' }),
  saveTotalLimit: whole('checkpoints to keep', 1, { default: '3' }),
  patience: whole('stop after so many evaluations without a lower loss', 1),
  loadBestAtEnd: flag('end with the parameters of the lowest evaluation loss', { default: 'off' }),
  detectAnomaly: flag('name the op where a NaN began (slow)', { default: 'off' }),
  samples: whole('held-out samples shown before and after', 0, { default: '1' }),
  // generation
  maxNewTokens: whole('tokens of the longest answer', 1, { default: '128; 64 of samples in training, 512 in chat' }),
  temperature: atLeast0('0 takes the likeliest token', { default: '0; 0.7 with chat' }),
  topK: whole('sample among so many likeliest tokens; 0: all', 0, { default: '0' }),
  topP: option(
    z.number('must be a number').gt(0, 'must be above 0 and at most 1').max(1, 'must be above 0 and at most 1'),
    {
      help: 'sample among the likeliest tokens of this probability together',
      value: '<p>',
      kind: 'number',
      default: '1',
    },
  ),
  stop: list('texts that end the answer', '<texts>'),
  system: template('system message', '<text>'),
  chat: flag("put the prompt through the model's chat template", { default: 'off' }),
  exactMatch: flag('also generate an answer to each record, and count those equal to the completion', {
    default: 'off',
  }),
  // saving
  format: choice('weights of the merged model', ['dense', 'nf4'], { default: 'dense' }),
  maxShardSize: option(z.number('must be a size such as 5GiB').positive('must be above 0'), {
    help: 'larger models are split',
    value: '<bytes>',
    kind: 'bytes',
    default: '5GiB',
  }),
  // machine
  backend: text('auto, cpu, webgpu, cuda, or the path of a module that makes one', '<name|path>', { default: 'auto' }),
  threads: whole('of the CPU backend', 1, { default: 'as many as the machine has' }),
  memory: option(z.number('must be a size such as 8GiB').positive('must be above 0'), {
    help: 'the most device memory to take; with plan, what must be enough',
    value: '<bytes>',
    kind: 'bytes',
    default: "the device's",
  }),
  config: text('YAML or JSON file with options by these names; the command line wins', '<path>'),
  json: flag('JSON for machines on standard output', { default: 'off' }),
});

export type Settings = z.output<typeof schema>;
export type OptionName = keyof Settings;

/** Options that a fresh adapter takes and that one which is loaded has fixed already. */
export const adapterOptions = [
  'r',
  'loraAlpha',
  'loraDropout',
  'targetModules',
  'excludeModules',
  'bias',
  'useRslora',
  'rankPattern',
  'alphaPattern',
  'layersToTransform',
  'modulesToSave',
  'initLoraWeights',
] as const satisfies readonly OptionName[];

export const optionNames = Object.keys(schema.shape) as OptionName[];

export function factsOf(name: OptionName): OptionFacts {
  return facts.get(schema.shape[name])!;
}

/** `loraAlpha` → `--lora-alpha` */
export function flagOf(name: string): string {
  return `--${kebab(name)}`;
}

export function kebab(name: string): string {
  return name.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`);
}

/** `lora-alpha`, `lora_alpha` and `loraAlpha` → `loraAlpha` */
export function camel(name: string): string {
  return name.replace(/[-_]+([a-z0-9])/g, (_, c: string) => c.toUpperCase());
}
