import { type LoraConfig, LoraModel } from '@lowrank/lora';
import type { CausalLm } from '@lowrank/models';
import { type Device, LowrankError, type Tensor } from '@lowrank/tensor';
import { selectParameters, type TrainableModel, type TrainerSettings } from '@lowrank/trainer';
import { adapterOptions, flagOf, type Settings } from '../options/schema.ts';
import { attachAdapters, type Method, quantOptions, type Subject } from './session.ts';

/** What is trained of a model. Disposing it takes the adapter off again; the model stays. */
export interface Trainee extends Disposable {
  readonly model: TrainableModel;
  readonly lora: LoraModel | undefined;
  readonly trainable: number;
  readonly total: number;
}

/** Adapter options in PEFT's terms. */
function loraConfig(settings: Settings, base?: string): Partial<LoraConfig> {
  const { r = 8, targetModules, initLoraWeights } = settings;
  return {
    r,
    loraAlpha: settings.loraAlpha ?? 2 * r,
    loraDropout: settings.loraDropout ?? 0,
    // one name is a name, one pattern is a regular expression
    targetModules: targets(targetModules ?? ['all-linear']),
    ...(settings.excludeModules ? { excludeModules: targets(settings.excludeModules) } : {}),
    ...(settings.bias ? { bias: settings.bias } : {}),
    ...(settings.useRslora !== undefined ? { useRslora: settings.useRslora } : {}),
    ...(settings.rankPattern ? { rankPattern: settings.rankPattern } : {}),
    ...(settings.alphaPattern ? { alphaPattern: settings.alphaPattern } : {}),
    ...(settings.layersToTransform ? { layersToTransform: settings.layersToTransform } : {}),
    ...(settings.modulesToSave ? { modulesToSave: settings.modulesToSave } : {}),
    initLoraWeights: initLoraWeights === 'gaussian' ? 'gaussian' : true,
    taskType: 'CAUSAL_LM',
    ...(base ? { baseModelNameOrPath: base } : {}),
  };
}

/** What a checkpoint's numbers mean beside the settings of the loop: the base that they were learnt on, and how they are scaled. */
export function identityOf(
  { config, method, settings }: Subject,
  { lora }: Pick<Trainee, 'lora'>,
): Record<string, string | number | boolean> {
  const { quantType, blockSize, doubleQuant } = quantOptions(settings);
  const [adapter] = lora?.adapters.values() ?? [];
  return {
    method,
    ...(method === 'qlora' && !config.quantization ? { quantType, blockSize, doubleQuant } : {}),
    ...(adapter
      ? {
          loraAlpha: adapter.config.loraAlpha,
          useRslora: adapter.config.useRslora,
          rankPattern: JSON.stringify(adapter.config.rankPattern),
          alphaPattern: JSON.stringify(adapter.config.alphaPattern),
        }
      : {}),
  };
}

/** Does an adapter of the model drop elements in training? */
export function dropsOut(lora: LoraModel): boolean {
  return [...lora.adapters.values()].some((a) => a.config.loraDropout > 0);
}

function targets(names: readonly string[]): readonly string[] | string {
  const [only] = names;
  if (names.length === 1 && (only === 'all-linear' || /[()[\]{}|^$*+?\\]/.test(only!))) return only!;
  return names;
}

/** Makes what the method trains: a fresh adapter, one that is loaded, or the weights themselves. */
export async function makeTrainee(
  device: Device,
  model: CausalLm,
  method: Method,
  settings: Settings,
  base?: string,
): Promise<Trainee> {
  if (method === 'full') {
    const unused = adapterOptions.filter((name) => settings[name] !== undefined);
    if (unused.length)
      throw new LowrankError(
        'train',
        'options of an adapter do not go with --method full',
        unused.map(flagOf).join(', '),
        'Leave them out, or train with --method lora',
      );
    const parameters = device.withClass('weights', () => selectParameters(model, settings.trainable ?? 'all'));
    const sizes = (tensors: Iterable<Tensor>) => [...tensors].reduce((sum, t) => sum + t.size, 0);
    const total = sizes([...model.namedParameters()].map(([, t]) => t));
    return {
      model: {
        parameters: () => parameters,
        hidden: (ids, input) => model.hidden(ids, input),
        head: (rows) => model.head(rows),
        prepare: (length) => void model.prepare(length),
        vocabSize: model.config.vocabSize,
      },
      lora: undefined,
      trainable: sizes(parameters.values()),
      total,
      [Symbol.dispose]: () => {},
    };
  }
  if (settings.trainable)
    throw new LowrankError(
      'train',
      '--trainable goes with --method full',
      '',
      'For modules beside an adapter there is --modules-to-save',
    );
  let lora: LoraModel<CausalLm>;
  if (settings.adapter) {
    const given = adapterOptions.filter((name) => settings[name] !== undefined);
    if (given.length)
      throw new LowrankError(
        'train',
        'the adapter that is loaded says this already',
        given.map(flagOf).join(', '),
        'Leave these options out, or train a fresh adapter',
      );
    if (settings.adapter.length > 1)
      throw new LowrankError('train', 'one adapter can be trained', settings.adapter.join(', '));
    lora = await attachAdapters(model, device, settings.adapter);
  } else {
    lora = new LoraModel(model, device);
    try {
      lora.addAdapter('default', loraConfig(settings, base), { seed: settings.seed ?? 0 });
    } catch (error) {
      lora.dispose();
      throw error;
    }
  }
  const { trainable, total } = lora.counts();
  return {
    model: lora.trainable(),
    lora,
    trainable,
    total,
    [Symbol.dispose]: () => lora.dispose(),
  };
}

/** Settings of the loop in the trainer's terms, with the command line's own defaults. */
export function trainerSettings(settings: Settings, method: Method): TrainerSettings {
  const s = settings;
  const given = {
    batchSize: s.batchSize,
    gradientAccumulationSteps: s.gradientAccumulationSteps,
    numEpochs: s.numEpochs,
    maxSteps: s.maxSteps,
    learningRate: s.learningRate ?? (method === 'full' ? 2e-5 : 2e-4),
    lrScheduler: s.lrScheduler,
    warmupSteps: s.warmupSteps,
    weightDecay: s.weightDecay,
    maxGradNorm: s.maxGradNorm ?? 1,
    optimizer: { kind: s.optimizer ?? 'adamw' },
    seed: s.seed,
    shuffle: s.shuffle,
    groupByLength: s.groupByLength,
    packing: s.packing,
    rowLength: s.packing ? s.maxLength : undefined,
    recompute: s.recompute,
    offload: s.offload,
    chunkRows: s.chunkRows,
    evalSteps: s.evalSteps,
    evalBatchSize: s.evalBatchSize,
    saveSteps: s.saveSteps,
    earlyStopping: s.patience === undefined ? undefined : { patience: s.patience },
    loadBestAtEnd: s.loadBestAtEnd,
  };
  return Object.fromEntries(Object.entries(given).filter(([, v]) => v !== undefined)) as TrainerSettings;
}
