import type { DataFacts, DataInputChoice, ForecastFacts, ModelChoice, ModelFacts, RunSettings } from '../protocol.ts';
import type { connect } from './client.ts';
import { at, bytes, count, el } from './dom.ts';

type Worker = ReturnType<typeof connect>;

const numbers = [
  'r',
  'maxSteps',
  'learningRate',
  'batchSize',
  'loraAlpha',
  'loraDropout',
  'maxLength',
  'heldOut',
  'seed',
  'shown',
] as const;

/** What memory is taken by, in words. */
const classes = {
  weights: 'base weights',
  adapters: 'adapter',
  gradients: 'gradients',
  optimizer: 'optimizer',
  activations: 'activations',
  workspace: 'workspace',
  data: 'data',
} as const;

/** The forms before a run: model, data, method, and the forecast of memory that follows from them. */
export class Setup {
  readonly #worker: Worker;
  readonly #form = at<HTMLFormElement>('setup');
  readonly #touched = new Set<string>();
  #model: ModelFacts | undefined;
  #data: DataFacts | undefined;
  /** Rises with every change: answers to older questions are dropped. */
  #modelTurn = 0;
  #dataTurn = 0;
  #timer = 0;
  /** Must the data be read again for what was changed? */
  #rereads = false;

  constructor(worker: Worker, onStart: (settings: RunSettings) => void) {
    this.#worker = worker;
    this.#form.addEventListener('submit', (event) => {
      event.preventDefault();
      const settings = this.#settings();
      if (settings) onStart(settings);
    });
    for (const radio of this.#form.querySelectorAll<HTMLInputElement>('input[type=radio]'))
      radio.addEventListener('change', () => {
        this.#unfold();
        if (radio.name === 'model') this.#modelChanged();
        else this.#dataChanged();
      });
    const files = (id: string) => at<HTMLInputElement>(id).files;
    for (const id of ['model-folder', 'model-gguf'])
      at(id).addEventListener('change', () => {
        const chosen = files(id);
        if (chosen?.length) void this.#chooseModel({ kind: 'files', files: [...chosen] });
      });
    at('hub-load').addEventListener('click', () => void this.#chooseHub());
    at('paste').addEventListener('input', () => this.#later(() => this.#dataChanged(), 500));
    at('data-file').addEventListener('change', () => this.#dataChanged());
    for (const id of [...numbers, 'method', 'backend'])
      at(id).addEventListener('input', () => {
        this.#touched.add(id);
        if (id === 'r' && !this.#touched.has('loraAlpha'))
          this.#set('loraAlpha', 2 * Number(at<HTMLInputElement>('r').value));
        // what is under way was asked with other settings; data that are not read yet must be read again
        this.#rereads ||= id === 'maxLength' || id === 'heldOut' || !this.#data;
        this.#dataTurn++;
        at<HTMLButtonElement>('start').disabled = true;
        this.#later(() => (this.#rereads ? this.#dataChanged() : this.#forecast()), 400);
      });
    const mayReachHub = document.documentElement.dataset.hub === 'open';
    at('hub-closed').hidden = mayReachHub;
    at('hub-open').hidden = !mayReachHub;
  }

  /** Shows the forms and reads what is chosen in them. */
  show(): void {
    this.#form.hidden = false;
    this.#unfold();
    this.#modelChanged();
  }

  hide(): void {
    this.#form.hidden = true;
  }

  #chosen(name: string): string {
    return this.#form.querySelector<HTMLInputElement>(`input[name=${name}]:checked`)!.value;
  }

  #unfold(): void {
    for (const part of this.#form.querySelectorAll<HTMLElement>('[data-for]')) {
      const [name, value] = part.dataset.for!.split('=') as [string, string];
      part.hidden = this.#chosen(name) !== value;
    }
  }

  #later(then: () => void, milliseconds: number): void {
    clearTimeout(this.#timer);
    this.#timer = window.setTimeout(then, milliseconds);
  }

  #modelChanged(): void {
    const kind = this.#chosen('model');
    this.#model = undefined;
    this.#modelTurn++;
    this.#fact('model-facts', '');
    this.#forget();
    if (kind === 'bundled') void this.#chooseModel({ kind });
    else if (kind === 'files') {
      const picked = [
        ...(at<HTMLInputElement>('model-folder').files ?? []),
        ...(at<HTMLInputElement>('model-gguf').files ?? []),
      ];
      if (picked.length) void this.#chooseModel({ kind, files: picked });
    }
  }

  async #chooseHub(): Promise<void> {
    const id = at<HTMLInputElement>('hub-id').value.trim();
    const token = at<HTMLInputElement>('hub-token').value.trim();
    if (id) await this.#chooseModel({ kind: 'hub', id, ...(token ? { token } : {}) });
  }

  async #chooseModel(choice: ModelChoice): Promise<void> {
    const turn = ++this.#modelTurn;
    this.#model = undefined;
    this.#forget();
    try {
      const facts = await this.#worker.chooseModel(choice);
      if (turn !== this.#modelTurn) return;
      this.#model = facts;
      const { name, family, layers, width, vocabulary, context, chat, quantized } = facts;
      const parts = [
        `${layers} layers`,
        `${count(width)} wide`,
        `vocabulary ${count(vocabulary)}`,
        `reads ${count(context)} tokens`,
      ];
      if (chat) parts.push('chat template');
      if (quantized) parts.push('in 4 bits');
      this.#fact('model-facts', `${name} (${family}): ${parts.join(', ')}`);
      this.#defaults(choice.kind === 'bundled');
      this.#dataChanged();
    } catch (error) {
      if (turn === this.#modelTurn) this.#fact('model-facts', (error as Error).message, true);
    }
  }

  /** What suits the model, where nobody said otherwise: the bundled one is tiny and learns at a high rate. */
  #defaults(bundled: boolean): void {
    const fitting = {
      learningRate: bundled ? 0.004 : 0.0002,
      batchSize: bundled ? 8 : 4,
      maxLength: bundled ? 256 : 512,
      r: bundled ? 16 : 8,
    };
    for (const [id, value] of Object.entries(fitting)) if (!this.#touched.has(id)) this.#set(id, value);
    if (!this.#touched.has('loraAlpha')) this.#set('loraAlpha', 2 * Number(at<HTMLInputElement>('r').value));
  }

  #set(id: string, value: number): void {
    at<HTMLInputElement>(id).value = String(value);
  }

  async #input(): Promise<DataInputChoice | undefined> {
    const kind = this.#chosen('data');
    if (kind === 'paste') {
      const text = at<HTMLTextAreaElement>('paste').value;
      return text.trim() ? { name: 'pasted text', text } : undefined;
    }
    if (kind === 'file') {
      const file = at<HTMLInputElement>('data-file').files?.[0];
      return file && { name: file.name, text: await file.text() };
    }
    const response = await fetch('bundled/train.jsonl');
    if (!response.ok) throw new Error(`the example data do not come: status ${response.status}`);
    return { name: 'train.jsonl', text: await response.text() };
  }

  #dataChanged(): void {
    this.#rereads = false;
    this.#forget();
    void this.#readData();
  }

  #forget(): void {
    this.#data = undefined;
    this.#dataTurn++;
    this.#fact('data-facts', '');
    at('data-examples').replaceChildren();
    at('forecast').replaceChildren(
      el('p', 'soft', 'The memory that this takes is told here once model and data are read.'),
    );
    at<HTMLButtonElement>('start').disabled = true;
  }

  async #readData(): Promise<void> {
    const turn = this.#dataTurn;
    if (!this.#model) return;
    try {
      const input = await this.#input();
      if (!input || turn !== this.#dataTurn) return;
      const { maxLength, heldOut } = this.#values();
      // a handful of samples is no reason to complain about a default
      const held = this.#touched.has('heldOut')
        ? heldOut
        : Math.min(heldOut, Math.floor(input.text.split('\n').length / 10));
      const facts = await this.#worker.setData(input, maxLength, held);
      if (turn !== this.#dataTurn) return;
      this.#data = facts;
      if (!this.#touched.has('heldOut')) this.#set('heldOut', held);
      this.#showData(facts);
      if (!this.#touched.has('maxSteps')) {
        const train = facts.samples - facts.heldOut;
        this.#set('maxSteps', Math.min(250, Math.max(30, Math.ceil((3 * train) / this.#values().batchSize))));
      }
      await this.#forecast();
    } catch (error) {
      if (turn === this.#dataTurn) this.#fact('data-facts', (error as Error).message, true);
    }
  }

  #showData({ name, samples, heldOut, longest, tokens, truncated, dropped, examples }: DataFacts): void {
    const parts = [`${count(samples - heldOut)} samples to learn`];
    if (heldOut) parts.push(`${count(heldOut)} held out`);
    parts.push(`${count(tokens)} tokens, ${count(longest)} in the longest`);
    if (truncated) parts.push(`${count(truncated)} cut`);
    if (dropped) parts.push(`${count(dropped)} left out: nothing of them would be learnt`);
    this.#fact('data-facts', `${name}: ${parts.join('; ')}`);
    at('data-examples').replaceChildren(
      ...examples
        .slice(0, 2)
        .map(({ prompt, completion }) => el('p', '', `${prompt.trimEnd()} → `, el('b', '', completion))),
    );
  }

  #fact(id: string, text: string, wrong = false): void {
    const place = at(id);
    place.textContent = text;
    place.classList.toggle('wrong', wrong);
  }

  #values(): Record<(typeof numbers)[number], number> {
    return Object.fromEntries(numbers.map((id) => [id, at<HTMLInputElement>(id).valueAsNumber])) as Record<
      (typeof numbers)[number],
      number
    >;
  }

  /** The settings, or undefined where a field holds what cannot be meant: then it is marked. */
  #settings(): RunSettings | undefined {
    let wrong: HTMLInputElement | undefined;
    for (const id of numbers) {
      const input = at<HTMLInputElement>(id);
      const bad = !input.checkValidity() || !Number.isFinite(input.valueAsNumber);
      input.setAttribute('aria-invalid', String(bad));
      if (bad) wrong ??= input;
    }
    if (wrong) {
      wrong.closest('details')?.setAttribute('open', '');
      return undefined;
    }
    const select = (id: string) => at<HTMLSelectElement>(id).value;
    return {
      ...this.#values(),
      heldOut: this.#data?.heldOut ?? 0,
      method: select('method') as RunSettings['method'],
      backend: select('backend') as RunSettings['backend'],
    };
  }

  async #forecast(): Promise<void> {
    const settings = this.#settings();
    at<HTMLButtonElement>('start').disabled = true;
    const turn = ++this.#dataTurn;
    if (!settings || !this.#data) return;
    try {
      const forecast = await this.#worker.forecast(settings);
      if (turn !== this.#dataTurn) return;
      at<HTMLButtonElement>('start').disabled = this.#showForecast(forecast);
    } catch (error) {
      if (turn === this.#dataTurn) at('forecast').replaceChildren(el('p', 'wrong', (error as Error).message));
    }
  }

  /** Shows what the run would take; true where it does not fit. */
  #showForecast(facts: ForecastFacts): boolean {
    const { reservedBytes, limitBytes, byClass, peakBytes, trainable, total, storageBytes, storageFreeBytes } = facts;
    const tooLarge = limitBytes !== undefined && reservedBytes > limitBytes;
    const noRoom = storageFreeBytes !== undefined && storageBytes > storageFreeBytes;
    const lines = [
      el(
        'p',
        tooLarge ? 'wrong' : '',
        tooLarge
          ? `Not enough memory: the run takes ${bytes(reservedBytes)}, ${bytes(limitBytes)} are there. Lower the batch size or the longest sample, or take a smaller model.`
          : `Takes about ${bytes(reservedBytes)} of memory; trains ${count(trainable)} of ${count(total)} numbers.`,
      ),
    ];
    if (noRoom)
      lines.push(
        el('p', 'wrong', `Not enough storage: ${bytes(storageBytes)} are needed, ${bytes(storageFreeBytes)} are free.`),
      );
    const bar = el('div', 'bar');
    bar.setAttribute('aria-hidden', 'true');
    const keys = el('ul', 'keys');
    for (const [i, [name, words]] of Object.entries(classes).entries()) {
      const size = byClass[name as keyof typeof classes];
      if (!size) continue;
      const part = el('i', `c${i}`);
      part.style.width = `${(100 * size) / peakBytes}%`;
      bar.append(part);
      keys.append(el('li', '', el('i', `c${i}`), `${words} ${bytes(size)}`));
    }
    at('forecast').replaceChildren(...lines, bar, keys);
    return tooLarge || noRoom;
  }
}
