import { check, checkNames, LowrankError } from '@lowrank/tensor';

export type LoraBias = 'none' | 'all' | 'lora_only';
export type InitLoraWeights = boolean | 'gaussian';

/** PEFT's LoraConfig, in camelCase. */
export interface LoraConfig {
  /** Rank of the update. */
  readonly r: number;
  /** The update is scaled by loraAlpha / r, or loraAlpha / √r with `useRslora`. */
  readonly loraAlpha: number;
  /** Probability with which elements of A's input are dropped in training. */
  readonly loraDropout: number;
  /** Names (`q_proj`: the last part of a path, or a longer suffix), a regular expression over the whole path, or `all-linear`. */
  readonly targetModules: readonly string[] | string;
  /** Never adapted, by the same rules. */
  readonly excludeModules?: readonly string[] | string;
  /** Which existing biases are trained as well. */
  readonly bias: LoraBias;
  readonly useRslora: boolean;
  /** Other ranks: a regular expression over the end of a path → r. The first that matches counts. */
  readonly rankPattern: Readonly<Record<string, number>>;
  readonly alphaPattern: Readonly<Record<string, number>>;
  /** Only layers with these numbers (the first number in the path); a whole path among `targetModules` counts whatever its layer. */
  readonly layersToTransform?: readonly number[];
  /** Names of the lists that are numbered (`layers`), where the first number is not the one. */
  readonly layersPattern?: string | readonly string[];
  /** Modules that are trained whole, as copies: those whose path ends so (at no dot, as PEFT has it), with everything in them. */
  readonly modulesToSave?: readonly string[];
  /** true: A uniform in ±1/√in, B zero. `gaussian`: A normal with deviation 1/r, B zero. false: B random too (for tests). */
  readonly initLoraWeights: InitLoraWeights;
  readonly taskType?: string;
  readonly baseModelNameOrPath?: string;
}

/** Targets where none are named, by `model_type`: PEFT's table. */
const defaultTargets: Readonly<Record<string, readonly string[]>> = {
  llama: ['q_proj', 'v_proj'],
  mistral: ['q_proj', 'v_proj'],
  qwen2: ['q_proj', 'v_proj'],
  qwen3: ['q_proj', 'v_proj'],
};

/** Every field, so that a name that is none is found: PEFT's own spelling, most of all. */
const fields = {
  r: true,
  loraAlpha: true,
  loraDropout: true,
  targetModules: true,
  excludeModules: true,
  bias: true,
  useRslora: true,
  rankPattern: true,
  alphaPattern: true,
  layersToTransform: true,
  layersPattern: true,
  modulesToSave: true,
  initLoraWeights: true,
  taskType: true,
  baseModelNameOrPath: true,
} as const satisfies Record<keyof LoraConfig, true>;

/** Fills in PEFT's defaults and checks every field. `modelType` finds default targets. */
export function resolveConfig(config: Partial<LoraConfig>, modelType?: string): LoraConfig {
  checkNames('lora', config, Object.keys(fields));
  const targetModules = config.targetModules ?? (modelType ? defaultTargets[modelType] : undefined);
  check(
    targetModules !== undefined && targetModules.length > 0,
    'lora',
    'targetModules is needed',
    modelType ? `no default for ${modelType}` : '',
    "Name modules (['q_proj', 'v_proj']), a regular expression, or 'all-linear'",
  );
  const out: LoraConfig = {
    r: 8,
    loraAlpha: 8,
    loraDropout: 0,
    bias: 'none',
    useRslora: false,
    rankPattern: {},
    alphaPattern: {},
    initLoraWeights: true,
    ...Object.fromEntries(Object.entries(config).filter(([, v]) => v !== undefined)),
    targetModules,
  };
  for (const [name, r] of [['r', out.r], ...Object.entries(out.rankPattern)] as [string, number][])
    check(
      Number.isInteger(r) && r > 0,
      'lora',
      'a rank must be a positive integer',
      `${name}: ${r}`,
      'Common ranks are 4 to 64',
    );
  for (const [name, a] of [['loraAlpha', out.loraAlpha], ...Object.entries(out.alphaPattern)] as [string, number][])
    check(
      Number.isFinite(a) && a > 0,
      'lora',
      'alpha must be positive',
      `${name}: ${a}`,
      'Common choices are r or 2·r',
    );
  check(out.loraDropout >= 0 && out.loraDropout < 1, 'lora', 'loraDropout must be in [0, 1)', String(out.loraDropout));
  check(
    ['none', 'all', 'lora_only'].includes(out.bias),
    'lora',
    'bias must be none, all or lora_only',
    String(out.bias),
  );
  check(
    !out.layersPattern?.length || out.layersToTransform !== undefined,
    'lora',
    'layersPattern needs layersToTransform',
    String(out.layersPattern),
  );
  check(
    [true, false, 'gaussian'].includes(out.initLoraWeights),
    'lora',
    'unknown initLoraWeights',
    String(out.initLoraWeights),
    'Known: true, false, gaussian',
  );
  return out;
}

/** Fields of adapter_config.json that change results and that this package does not have. They must be absent, null, false or empty. */
const unsupported = [
  'use_dora',
  'lora_bias',
  'alora_invocation_tokens',
  'target_parameters',
  'layer_replication',
  'trainable_token_indices',
  'use_qalora',
  'use_bdlora',
  'arrow_config',
  'kasa_config',
  'velora_config',
  'monteclora_config',
  'megatron_config',
  'ensure_weight_tying',
];

function isUnset(v: unknown): boolean {
  return v === undefined || v === null || v === false || (typeof v === 'object' && Object.keys(v).length === 0);
}

/** The contents of `adapter_config.json`, with PEFT's names. */
export function toPeftJson(config: LoraConfig): Record<string, unknown> {
  return {
    alpha_pattern: config.alphaPattern,
    base_model_name_or_path: config.baseModelNameOrPath ?? null,
    bias: config.bias,
    ...(config.excludeModules ? { exclude_modules: config.excludeModules } : {}),
    fan_in_fan_out: false,
    inference_mode: true,
    init_lora_weights: config.initLoraWeights,
    layers_pattern: config.layersPattern ?? null,
    layers_to_transform: config.layersToTransform ?? null,
    lora_alpha: config.loraAlpha,
    lora_dropout: config.loraDropout,
    modules_to_save: config.modulesToSave ?? null,
    peft_type: 'LORA',
    r: config.r,
    rank_pattern: config.rankPattern,
    target_modules: config.targetModules,
    task_type: config.taskType ?? 'CAUSAL_LM',
    use_dora: false,
    use_rslora: config.useRslora,
  };
}

/** Reads a parsed `adapter_config.json`. Settings that would change results and are not known here are errors. */
export function fromPeftJson(json: unknown): LoraConfig {
  check(
    json !== null && typeof json === 'object' && !Array.isArray(json),
    'adapter_config.json',
    'must hold an object',
  );
  const j = json as Record<string, unknown>;
  check(j.peft_type === 'LORA', 'adapter_config.json', 'peft_type must be LORA', JSON.stringify(j.peft_type));
  for (const key of unsupported)
    if (!isUnset(j[key]))
      throw new LowrankError(
        'adapter_config.json',
        'uses a setting that is not supported',
        `${key}: ${JSON.stringify(j[key])}`,
      );
  check(!j.fan_in_fan_out, 'adapter_config.json', 'fan_in_fan_out is not supported for this base');
  const optional = (key: string, to: string): Record<string, unknown> => (isUnset(j[key]) ? {} : { [to]: j[key] });
  const list = (v: unknown) => (typeof v === 'number' ? [v] : v);
  // initialisations that changed the base leave an adapter that is plain LoRA on the changed base only
  const init = j.init_lora_weights ?? true;
  check(
    init === true || init === false || init === 'gaussian' || init === 'orthogonal' || init === 'eva',
    'adapter_config.json',
    'this initialisation changes the base weights, which an adapter alone does not carry',
    `init_lora_weights: ${JSON.stringify(init)}`,
    'Convert it with PEFT (save_pretrained with path_initial_model_for_weight_conversion) first',
  );
  return resolveConfig({
    r: j.r as number,
    loraAlpha: j.lora_alpha as number,
    loraDropout: (j.lora_dropout as number | undefined) ?? 0,
    targetModules: j.target_modules as string | string[],
    bias: (j.bias as LoraBias | undefined) ?? 'none',
    useRslora: (j.use_rslora as boolean | undefined) ?? false,
    rankPattern: (j.rank_pattern as Record<string, number> | undefined) ?? {},
    alphaPattern: (j.alpha_pattern as Record<string, number> | undefined) ?? {},
    initLoraWeights: typeof init === 'boolean' || init === 'gaussian' ? init : true,
    ...optional('exclude_modules', 'excludeModules'),
    ...(isUnset(j.layers_to_transform) ? {} : { layersToTransform: list(j.layers_to_transform) as number[] }),
    ...optional('layers_pattern', 'layersPattern'),
    ...optional('modules_to_save', 'modulesToSave'),
    ...optional('task_type', 'taskType'),
    ...optional('base_model_name_or_path', 'baseModelNameOrPath'),
  });
}
