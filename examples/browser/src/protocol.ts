/** What the page and its worker say to each other. Everything here can be structured-cloned. */
import type { BytesByClass } from '@lowrank/tensor';

/** Where a model comes from. Files from disk and from the hub are kept in the page's private storage once a run starts. */
export type ModelChoice =
  | { readonly kind: 'bundled' }
  | { readonly kind: 'files'; readonly files: readonly File[] }
  | { readonly kind: 'hub'; readonly id: string; readonly token?: string };

export interface ModelFacts {
  readonly name: string;
  /** Llama, Qwen 2 …: `model_type` of the configuration. */
  readonly family: string;
  readonly layers: number;
  readonly width: number;
  readonly vocabulary: number;
  /** Tokens that it can read at once. */
  readonly context: number;
  readonly chat: boolean;
  /** Kept in 4 bits already: it cannot be merged into the same folder as a dense one. */
  readonly quantized: boolean;
}

export interface DataInputChoice {
  /** A file's name tells its format; pasted text is looked at. */
  readonly name: string;
  readonly text: string;
}

export interface DataFacts {
  readonly name: string;
  readonly samples: number;
  readonly heldOut: number;
  readonly longest: number;
  readonly tokens: number;
  readonly truncated: number;
  readonly dropped: number;
  readonly examples: readonly { readonly prompt: string; readonly completion: string }[];
}

export type Method = 'qlora' | 'lora';
export type BackendChoice = 'auto' | 'webgpu' | 'wasm';

export interface RunSettings {
  readonly method: Method;
  readonly r: number;
  readonly loraAlpha: number;
  readonly loraDropout: number;
  readonly learningRate: number;
  readonly batchSize: number;
  readonly maxSteps: number;
  /** Longer samples are cut. */
  readonly maxLength: number;
  /** The last samples of the data, kept out of training to measure on. */
  readonly heldOut: number;
  readonly seed: number;
  /** Samples that are answered before and after. */
  readonly shown: number;
  readonly backend: BackendChoice;
}

export interface ForecastFacts {
  readonly peakBytes: number;
  readonly reservedBytes: number;
  readonly byClass: Readonly<BytesByClass>;
  readonly trainable: number;
  readonly total: number;
  /** What the device has, as far as it says. */
  readonly limitBytes: number | undefined;
  /** Of the private storage that a run takes: the model where it is not bundled, and checkpoints. */
  readonly storageBytes: number;
  readonly storageFreeBytes: number | undefined;
}

export interface DeviceFacts {
  readonly backend: 'webgpu' | 'wasm';
  readonly device: string;
  /** Why not the other one; empty where there is nothing to say. */
  readonly notice: string;
}

export interface StepFacts {
  readonly step: number;
  readonly totalSteps: number;
  readonly loss: number;
  readonly learningRate: number;
  readonly tokensPerSecond: number;
  readonly secondsLeft: number;
  readonly memoryBytes: number;
  readonly peakBytes: number;
}

export interface ShownSample {
  readonly prompt: string;
  readonly expected: string;
  readonly before: string;
  readonly after: string | undefined;
}

/**
 * `training`: steps are being made. `paused`: stopped by the person, or by a page that closed while it was paused.
 * `interrupted`: the page closed, or the device failed, in the middle. `done`: trained, or stopped for good.
 */
export type Phase = 'loading' | 'training' | 'paused' | 'interrupted' | 'done';

/** A run as it stands: everything that the page needs to show it, also after a reload. */
export interface RunView {
  readonly phase: Phase;
  readonly model: ModelFacts;
  readonly data: Pick<DataFacts, 'name' | 'samples' | 'heldOut'>;
  readonly settings: RunSettings;
  readonly step: number;
  readonly totalSteps: number;
  /** Loss of each step so far, as the last checkpoint knows it. */
  readonly history: readonly { readonly step: number; readonly loss: number }[];
  readonly evaluations: readonly { readonly step: number; readonly loss: number }[];
  readonly samples: readonly ShownSample[];
  /** Why it was interrupted, where something failed. */
  readonly failure?: string | undefined;
}

export interface Opened {
  readonly run: RunView | undefined;
  /** Did the run go on where a reload or a crash ended it? It should, unless it did not get anywhere since. */
  readonly goesOn: boolean;
}

export interface ChatTurn {
  readonly role: 'user' | 'assistant';
  readonly content: string;
}

/** What the page may ask of the worker. */
export interface Requests {
  open(): Opened;
  chooseModel(choice: ModelChoice): ModelFacts;
  setData(data: DataInputChoice, maxLength: number, heldOut: number): DataFacts;
  forecast(settings: RunSettings): ForecastFacts;
  start(settings: RunSettings): RunView;
  goOn(): RunView;
  pause(): void;
  stop(): void;
  discard(): void;
  chat(turns: readonly ChatTurn[], adapted: boolean): string;
  stopChat(): void;
  download(what: 'adapter' | 'merged'): File;
}

/** What the worker tells without being asked. */
export type WorkerEvent =
  | { readonly event: 'status'; readonly text: string; readonly share?: number }
  | { readonly event: 'device'; readonly facts: DeviceFacts }
  | { readonly event: 'step'; readonly steps: readonly StepFacts[] }
  | { readonly event: 'evaluation'; readonly step: number; readonly loss: number }
  | { readonly event: 'saved'; readonly step: number }
  | { readonly event: 'run'; readonly run: RunView }
  | { readonly event: 'token'; readonly text: string };

export interface Request {
  readonly id: number;
  readonly name: keyof Requests;
  readonly args: readonly unknown[];
}

export type Answer = { readonly id: number; readonly value: unknown } | { readonly id: number; readonly error: string };
