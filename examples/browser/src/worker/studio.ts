import { type ChatMessage, generate, loadConfig, loadTokenizer } from '@lowrank/models';
import { type Backend, keep, LowrankError } from '@lowrank/tensor';
import { evaluate, type StepRecord, Trainer, type TrainResult } from '@lowrank/trainer';
import type {
  BackendChoice,
  ChatTurn,
  DataFacts,
  DataInputChoice,
  DeviceFacts,
  ForecastFacts,
  ModelChoice,
  ModelFacts,
  Opened,
  Phase,
  RunSettings,
  RunView,
  WorkerEvent,
} from '../protocol.ts';
import { openBackend } from './backend.ts';
import { type PreparedData, prepareData, questionsOf } from './data.ts';
import { adapterZip, mergedZip } from './export.ts';
import { chosenFiles, companions, filesOfRun, keepModel, storedWeights } from './model-store.ts';
import { checkpoints, clearRun, loadData, loadRecord, type RunRecord, saveData, saveRecord } from './run-record.ts';
import { Session, type Subject } from './session.ts';
import { forecastRun, loopSettings, trainable, waiting } from './training.ts';

/** Everything that the worker does: one model, one data set, one run at a time. */
export class Studio {
  readonly #emit: (event: WorkerEvent) => void;
  #choice: ModelChoice = { kind: 'bundled' };
  #subject: Subject | undefined;
  #modelFacts: ModelFacts | undefined;
  #input: DataInputChoice | undefined;
  #data: PreparedData | undefined;
  #backend: { choice: BackendChoice; backend: Backend; facts: DeviceFacts } | undefined;
  #session: Session | undefined;
  #record: RunRecord | undefined;
  #history: { step: number; loss: number }[] = [];
  #failure: string | undefined;
  #abort: AbortController | undefined;
  #ending: 'pause' | 'stop' | undefined;
  #loop: Promise<void> = Promise.resolve();
  #chatting: AbortController | undefined;

  constructor(emit: (event: WorkerEvent) => void) {
    this.#emit = emit;
  }

  /** Finds the run that the private storage keeps. One tab at a time: the storage has one run. */
  async open(): Promise<Opened> {
    await soleTab();
    const record = await loadRecord();
    if (!record) return { run: undefined, goesOn: false };
    const cutOff = record.phase === 'training' || record.phase === 'loading';
    this.#record = cutOff ? { ...record, phase: 'interrupted' } : record;
    const state = await checkpoints().latest();
    this.#history = (state?.history ?? []).map(({ step, loss }) => ({ step, loss }));
    for (const { step, loss } of state?.evaluations ?? []) this.#noteEvaluation(step, loss);
    return { run: this.#view(), goesOn: cutOff && record.tries < 2 };
  }

  async chooseModel(choice: ModelChoice): Promise<ModelFacts> {
    this.#subject = this.#modelFacts = this.#data = undefined;
    this.#status('reading the model’s configuration and tokenizer');
    const files = chosenFiles(choice);
    const config = await loadConfig(files);
    const tokenizer = await loadTokenizer(files);
    const { modelType, layers, hiddenSize, vocabSize, maxPositions } = config.config;
    this.#choice = choice;
    this.#subject = { files, config, tokenizer };
    this.#modelFacts = {
      name: files.name,
      family: modelType,
      layers,
      width: hiddenSize,
      vocabulary: vocabSize,
      context: maxPositions,
      chat: tokenizer.hasChatTemplate,
      quantized: config.quantization !== undefined,
    };
    return this.#modelFacts;
  }

  async setData(input: DataInputChoice, maxLength: number, heldOut: number): Promise<DataFacts> {
    this.#data = undefined;
    const { tokenizer, config } = this.#chosen();
    this.#status('reading the data');
    this.#data = await prepareData(input, tokenizer, config.config, { maxLength, heldOut });
    this.#input = input;
    return this.#data.facts;
  }

  async forecast(settings: RunSettings): Promise<ForecastFacts> {
    const { files, config } = this.#chosen();
    const data = this.#prepared();
    const backend = await this.#backendFor(settings.backend);
    this.#status('working out the memory');
    const { dtypeOf, bytes } = await storedWeights(files);
    const plan = await forecastRun(backend, config.config, dtypeOf, data, settings);
    const { quota, usage } = await navigator.storage.estimate();
    return {
      ...plan,
      // three checkpoints at most while one is replaced: parameters and two moments, in f32
      storageBytes: (this.#choice.kind === 'bundled' ? 0 : bytes) + 3 * 12 * plan.trainable,
      storageFreeBytes: quota === undefined ? undefined : quota - (usage ?? 0),
    };
  }

  async start(settings: RunSettings): Promise<RunView> {
    const subject = this.#chosen();
    const data = this.#prepared();
    await this.#close();
    await clearRun();
    this.#history = [];
    this.#record = {
      version: 1,
      modelKind: this.#choice.kind,
      model: this.#modelFacts!,
      data: data.facts,
      settings,
      phase: 'loading',
      samples: [],
      evaluations: [],
      tries: 0,
    };
    this.#loop = this.#guard(async () => {
      const files = await keepModel(this.#choice, subject.files, (file, share) =>
        this.#status(`keeping ${file} in this page’s storage`, share),
      );
      this.#subject = { ...subject, files };
      await saveData(this.#input!);
      await this.#update({});
      await this.#openSession();
      await this.#train();
    });
    return this.#view();
  }

  /** Goes on from the last checkpoint, or from the beginning where there is none. */
  async goOn(): Promise<RunView> {
    const record = this.#running();
    if (record.phase === 'done' || this.#abort) return this.#view();
    await this.#update({ phase: 'loading', tries: record.tries + 1 });
    this.#loop = this.#guard(async () => {
      if (!this.#session) await this.#openSession();
      await this.#train();
    });
    return this.#view();
  }

  /** Ends the step under way, saves a checkpoint, and waits for `goOn`. */
  async pause(): Promise<void> {
    await this.#end('pause');
  }

  /** Ends the run here: what was learnt so far is the adapter. */
  async stop(): Promise<void> {
    if (this.#abort) await this.#end('stop');
    else if (this.#running().phase !== 'done') {
      await this.#ensureSession();
      await this.#finish();
    }
    await this.#loop;
  }

  /** Ends what is under way, if anything is, and waits for its end. */
  async #end(how: 'pause' | 'stop'): Promise<void> {
    this.#ending = how;
    this.#abort?.abort();
    await this.#loop;
    this.#ending = undefined;
  }

  async discard(): Promise<void> {
    await this.#end('stop');
    await this.#close();
    this.#record = undefined;
    this.#history = [];
    this.#failure = undefined;
    await clearRun();
  }

  /** Streams an answer as `token` events; gives all of it. Where the data were no conversations, the last turn alone is the prompt, as in them. */
  async chat(turns: readonly ChatTurn[], adapted: boolean): Promise<string> {
    const session = await this.#ensureSession();
    const { tokenizer } = session.subject;
    const last = turns.at(-1)?.content ?? '';
    const { chats, promptEnd } = this.#prepared();
    const prompt = chats
      ? tokenizer.encodeChat(turns as readonly ChatMessage[], { addGenerationPrompt: true })
      : last + promptEnd;
    this.#chatting = new AbortController();
    const { signal } = this.#chatting;
    let all = '';
    const answer = async () => {
      for await (const { text } of generate(session.model, prompt, { tokenizer, maxNewTokens: 256 })) {
        all += text;
        if (text) this.#emit({ event: 'token', text });
        // lets messages in: on WebAssembly a token is computed without a pause
        await new Promise((resolve) => setTimeout(resolve, 0));
        if (signal.aborted) return;
      }
    };
    try {
      await (adapted ? answer() : session.withoutAdapter(answer));
    } finally {
      this.#chatting = undefined;
    }
    return all;
  }

  stopChat(): void {
    this.#chatting?.abort();
  }

  async download(what: 'adapter' | 'merged'): Promise<File> {
    const { lora, model, subject } = await this.#ensureSession();
    const { settings } = this.#running();
    this.#status(what === 'adapter' ? 'packing the adapter' : 'merging');
    if (what === 'adapter') return adapterZip(lora, subject.files.name, settings);
    return mergedZip(model, lora, {
      config: subject.config.json,
      companions: await companions(subject.files),
      onTensor: (name) => this.#status(`writing ${name}`),
    });
  }

  #chosen(): Subject {
    if (this.#subject) return this.#subject;
    throw new LowrankError('model', 'no model is chosen yet');
  }

  #prepared(): PreparedData {
    if (this.#data) return this.#data;
    throw new LowrankError('data', 'no data are there yet', '', 'Choose a file, or paste records');
  }

  #running(): RunRecord {
    if (this.#record) return this.#record;
    throw new LowrankError('run', 'there is no run');
  }

  #status(text: string, share?: number): void {
    this.#emit({ event: 'status', text, ...(share === undefined ? {} : { share }) });
  }

  #view(): RunView {
    const { model, data, settings, phase, samples, evaluations } = this.#running();
    return {
      phase,
      model,
      data,
      settings,
      samples,
      evaluations,
      step: this.#history.at(-1)?.step ?? 0,
      totalSteps: settings.maxSteps,
      history: this.#history,
      failure: this.#failure,
    };
  }

  async #update(change: Partial<RunRecord>): Promise<void> {
    this.#record = { ...this.#running(), ...change };
    await saveRecord(this.#record);
    this.#emit({ event: 'run', run: this.#view() });
  }

  /** Runs a part of the run; what fails in it interrupts the run and is shown. */
  async #guard(part: () => Promise<void>): Promise<void> {
    this.#failure = undefined;
    try {
      await part();
    } catch (error) {
      this.#failure = inWords(error);
      await this.#close();
      await this.#update({ phase: 'interrupted' }).catch(() => this.#emit({ event: 'run', run: this.#view() }));
    } finally {
      this.#abort = this.#ending = undefined;
    }
  }

  async #backendFor(choice: BackendChoice): Promise<Backend> {
    if (this.#backend?.choice === choice) return this.#backend.backend;
    if (!this.#session) await this.#backend?.backend.close();
    this.#backend = undefined;
    this.#status('opening the device');
    const opened = await openBackend(choice);
    this.#backend = { choice, ...opened };
    this.#emit({ event: 'device', facts: opened.facts });
    return opened.backend;
  }

  async #close(): Promise<void> {
    const session = this.#session;
    this.#session = undefined;
    if (session) this.#backend = undefined;
    await session?.close();
  }

  /** Brings model, data and adapter of the run onto the device, with what the last checkpoint knows. */
  async #openSession(): Promise<Session> {
    const { settings, modelKind } = this.#running();
    if (!this.#subject || !this.#data) {
      this.#status('opening the model');
      const files = await filesOfRun(modelKind);
      const subject = { files, config: await loadConfig(files), tokenizer: await loadTokenizer(files) };
      const input = await loadData();
      if (!input)
        throw new LowrankError('data', 'the run’s data are no longer in this page’s storage', '', 'Start anew');
      this.#data = await prepareData(input, subject.tokenizer, subject.config.config, settings);
      this.#subject = subject;
    }
    const backend = await this.#backendFor(settings.backend);
    try {
      this.#session = await Session.open(this.#subject, backend, settings, (share) =>
        this.#status('loading the weights', share),
      );
    } catch (error) {
      this.#backend = undefined;
      throw error;
    }
    return this.#session;
  }

  /** The session of a run that is not training now. */
  async #ensureSession(): Promise<Session> {
    if (this.#abort) throw new LowrankError('run', 'the model is being trained', '', 'Pause first');
    if (this.#session) return this.#session;
    const session = await this.#openSession();
    // a trainer knows how to put a checkpoint's parameters in their places
    using trainer = this.#trainer(session);
    await trainer.resume('latest');
    return session;
  }

  #trainer(session: Session, extra: Partial<ConstructorParameters<typeof Trainer>[0]> = {}): Trainer {
    const { settings } = this.#running();
    const { train, heldOut } = this.#prepared();
    const { device, model, lora } = session;
    return new Trainer({
      ...loopSettings(settings, device.backend.caps.asynchronous),
      ...(heldOut ? { evalSteps: Math.max(10, Math.round(settings.maxSteps / 5)) } : {}),
      device,
      model: trainable(model, lora),
      data: train,
      evalData: heldOut,
      checkpoints: checkpoints(),
      ...extra,
    });
  }

  async #train(): Promise<void> {
    const session = this.#session!;
    const { settings, samples } = this.#running();
    const { device, lora } = session;
    if (!samples.length && settings.shown) await this.#sampleBefore(session);
    this.#abort = new AbortController();
    if (this.#ending) this.#abort.abort(); // asked for while the model was loading
    using seed = keep(device.withClass('workspace', () => device.seed(settings.seed)));
    const dropout = settings.loraDropout > 0;
    if (dropout) lora.seed = seed;
    let result: TrainResult;
    {
      const pace = new Pace(settings.maxSteps);
      using trainer = this.#trainer(session, {
        dropoutSeed: dropout ? seed : undefined,
        signal: this.#abort.signal,
        onLog: (record) => this.#logged(record, pace),
        onStep: waiting(device),
        onEvaluate: async ({ step, loss }) => this.#evaluated(step, loss),
        onSave: async ({ step }) => {
          if (this.#record!.tries) await saveRecord((this.#record = { ...this.#record!, tries: 0 }));
          this.#emit({ event: 'saved', step });
        },
      });
      await trainer.resume('latest');
      this.#history = trainer.state.history.map(({ step, loss }) => ({ step, loss }));
      await this.#update({
        phase: 'training',
        evaluations: trainer.state.evaluations.map(({ step, loss }) => ({ step, loss })),
      });
      result = await trainer.train();
    }
    if (dropout) lora.seed = undefined;
    const paused = result.stopped === 'aborted' && this.#ending === 'pause';
    this.#abort = undefined;
    if (paused) await this.#update({ phase: 'paused' });
    else await this.#finish();
  }

  #logged({ step, totalSteps, loss, learningRate, tokensPerSecond, memory }: StepRecord, pace: Pace): void {
    this.#history.push({ step, loss });
    const secondsLeft = pace.secondsLeft(step);
    const facts = { step, totalSteps, loss, learningRate, tokensPerSecond, secondsLeft };
    this.#emit({ event: 'step', steps: [{ ...facts, memoryBytes: memory.live, peakBytes: memory.peak }] });
  }

  #evaluated(step: number, loss: number): void {
    this.#noteEvaluation(step, loss);
    this.#emit({ event: 'evaluation', step, loss });
  }

  #noteEvaluation(step: number, loss: number): void {
    const record = this.#running();
    const others = record.evaluations.filter((e) => e.step !== step);
    this.#record = { ...record, evaluations: [...others, { step, loss }].sort((a, b) => a.step - b.step) };
  }

  #questions() {
    const { heldOut, train } = this.#prepared();
    return questionsOf(heldOut ?? train, this.#subject!.tokenizer, this.#running().settings.shown);
  }

  async #sampleBefore(session: Session): Promise<void> {
    this.#status('answering some samples before training');
    const questions = this.#questions();
    const before = await session.withoutAdapter(() => session.answer(questions, undefined));
    const samples = questions.map(({ prompt, expected }, i) => ({
      prompt,
      expected,
      before: before[i]!,
      after: undefined,
    }));
    await this.#update({ samples });
  }

  async #finish(): Promise<void> {
    const { device, model, lora } = this.#session!;
    const { heldOut } = this.#prepared();
    const { evaluations, settings } = this.#running();
    const step = this.#history.at(-1)?.step ?? 0;
    if (heldOut && evaluations.at(-1)?.step !== step) {
      this.#status('measuring on what was held out');
      const { loss } = await evaluate(device, trainable(model, lora), heldOut, { batchSize: settings.batchSize });
      this.#evaluated(step, loss);
    }
    this.#status('answering the samples again');
    const after = await this.#session!.answer(this.#questions(), undefined);
    const samples = this.#running().samples.map((sample, i) => ({ ...sample, after: after[i] }));
    await this.#update({ phase: 'done' satisfies Phase, samples });
  }
}

/** A hint for programs is none for a person whose device was lost. */
function inWords(error: unknown): string {
  if (error instanceof LowrankError && error.op === 'webgpu') return `${error.op}: ${error.rule}: ${error.facts}`;
  return error instanceof Error ? error.message : String(error);
}

/** Time left, from the pace of the last steps. */
class Pace {
  readonly #total: number;
  readonly #seen: { step: number; at: number }[] = [];

  constructor(total: number) {
    this.#total = total;
  }

  secondsLeft(step: number): number {
    this.#seen.push({ step, at: performance.now() });
    if (this.#seen.length > 20) this.#seen.shift();
    const [first] = this.#seen;
    if (!first || first.step === step) return Number.NaN;
    return ((performance.now() - first.at) / 1000 / (step - first.step)) * (this.#total - step);
  }
}

/** Resolves when this is the only tab with the page; its worker holds the lock while it lives. */
async function soleTab(): Promise<void> {
  const waiting = new AbortController();
  const timer = setTimeout(() => waiting.abort(), 5000);
  await new Promise<void>((resolve, reject) => {
    const held = () => {
      clearTimeout(timer);
      resolve();
      return new Promise<never>(() => {});
    };
    navigator.locks.request('lowrank', { signal: waiting.signal }, held).catch(reject);
  }).catch((cause) => {
    throw new LowrankError('page', 'it is open in another tab', '', 'Close that tab, then reload this one', { cause });
  });
}
