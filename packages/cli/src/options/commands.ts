import { adapterOptions, type OptionName } from './schema.ts';

const machine = ['backend', 'threads', 'memory', 'config', 'json'] as const;
const base = ['model', 'revision', 'dtype'] as const;
const quantization = ['quantType', 'blockSize', 'doubleQuant'] as const;
const loaded = [...base, 'adapter', 'method', ...quantization] as const;
const records = [
  'data',
  'prompt',
  'completion',
  'text',
  'maxLength',
  'truncation',
  'lossOn',
  'onMasked',
  'appendEos',
] as const;
const steps = [
  'batchSize',
  'gradientAccumulationSteps',
  'packing',
  'recompute',
  'offload',
  'chunkRows',
  'optimizer',
  'shuffle',
  'groupByLength',
  'seed',
  'maxSteps',
  'numEpochs',
] as const;
const heldOut = ['evalData', 'evalRows', 'evalBatchSize'] as const;
const training = [
  'learningRate',
  'lrScheduler',
  'warmupSteps',
  'weightDecay',
  'maxGradNorm',
  'evalSteps',
  'saveSteps',
  'saveTotalLimit',
  'patience',
  'loadBestAtEnd',
  'detectAnomaly',
  'samples',
  'maxNewTokens',
] as const;
const sampling = ['maxNewTokens', 'temperature', 'topK', 'topP', 'stop', 'seed'] as const;
const written = ['output', 'overwrite'] as const;

interface CommandFacts {
  readonly about: string;
  /** What may stand without a name, and the option that it sets. */
  readonly positional?: OptionName;
  readonly required: readonly OptionName[];
  /** Options by heading. */
  readonly groups: Readonly<Record<string, readonly OptionName[]>>;
  readonly examples: readonly string[];
}

const facts = {
  train: {
    about: 'Fine-tune a model: LoRA, QLoRA or all weights',
    required: ['data', 'output'],
    groups: {
      Model: loaded,
      Data: [...records, ...heldOut],
      Adapter: [...adapterOptions, 'trainable'],
      Training: [...written, 'resume', ...steps, ...training],
      Machine: machine,
    },
    examples: [
      'lowrank train --model HuggingFaceTB/SmolLM2-135M-Instruct --data chats.jsonl --output my-adapter',
      "lowrank train --model ./model --method qlora --data gsm8k.jsonl --prompt '{question}\\n' --completion '{answer}' --r 16 --output out",
      'lowrank train --config out/lowrank.json --resume',
    ],
  },
  eval: {
    about: 'Loss of a model, with or without adapters, on records',
    required: ['data'],
    groups: {
      Model: loaded,
      Data: [...records, 'batchSize', 'chunkRows', 'exactMatch', 'maxNewTokens'],
      Machine: machine,
    },
    examples: ["lowrank eval --adapter out --data test.jsonl --prompt '{question}\\n' --completion '{answer}' --json"],
  },
  generate: {
    about: 'Continue a prompt',
    positional: 'prompt',
    required: ['prompt'],
    groups: { Model: loaded, Text: ['prompt', 'system', 'chat', ...sampling], Machine: machine },
    examples: ["lowrank generate --adapter out 'Why is the sky blue?'"],
  },
  chat: {
    about: 'Talk with a model',
    required: [],
    groups: { Model: loaded, Text: ['system', ...sampling], Machine: machine },
    examples: ['lowrank chat --adapter out --temperature 0.7'],
  },
  quantize: {
    about: 'Write a 4-bit checkpoint that bitsandbytes and transformers load',
    required: ['model', 'output'],
    groups: { Model: [...base, ...quantization], Output: [...written, 'maxShardSize'], Machine: machine },
    examples: ['lowrank quantize --model ./model --output model-nf4'],
  },
  merge: {
    about: 'Put adapters into their base and write a whole model',
    required: ['adapter', 'output'],
    groups: { Model: loaded, Output: [...written, 'format', 'maxShardSize'], Machine: machine },
    examples: [
      'lowrank merge --adapter out --output merged',
      'lowrank merge --adapter out --format nf4 --output merged-nf4',
    ],
  },
  plan: {
    about: 'What a training run would take, without running it: full, LoRA and QLoRA side by side',
    positional: 'model',
    required: ['model'],
    groups: {
      Model: [...loaded],
      Data: [...records, ...heldOut],
      Adapter: [...adapterOptions, 'trainable'],
      Training: steps,
      Machine: machine,
    },
    examples: ['lowrank plan ./llama-7b/config.json --batch-size 1 --max-length 2048 --memory 24GiB'],
  },
  info: {
    about: 'Backends of this machine; facts of a model or an adapter',
    positional: 'model',
    required: [],
    groups: { Model: ['model', 'revision'], Machine: ['config', 'json'] },
    examples: ['lowrank info', 'lowrank info ./my-adapter'],
  },
  demo: {
    about: 'Fine-tune the bundled model by QLoRA, and see what it learnt',
    required: [],
    groups: { Training: ['maxSteps', 'evalData'], Output: [...written], Machine: machine },
    examples: ['lowrank demo'],
  },
} as const satisfies Record<string, CommandFacts>;

export type CommandName = keyof typeof facts;
export const commands: Readonly<Record<CommandName, CommandFacts>> = facts;
export const commandNames = Object.keys(facts) as CommandName[];

export function optionsOf(command: CommandName): ReadonlySet<OptionName> {
  return new Set(Object.values(commands[command].groups).flat());
}
