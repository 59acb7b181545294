import type { ChatTurn, RunView, StepFacts } from '../protocol.ts';
import { LossChart } from './chart.ts';
import type { connect } from './client.ts';
import { at, bytes, duration, el } from './dom.ts';

type Worker = ReturnType<typeof connect>;

/** Titles of a run by where it stands. */
const titles: Readonly<Record<RunView['phase'], string>> = {
  loading: 'Getting ready',
  training: 'Training',
  paused: 'Paused',
  interrupted: 'Interrupted',
  done: 'Done',
};

/** A run on the page: figures, curve, samples, chat, downloads. */
export class RunPage {
  readonly #worker: Worker;
  readonly #fail: (error: unknown) => void;
  readonly #onDiscard: () => void;
  readonly #chart = new LossChart(at('chart'));
  #run: RunView | undefined;
  #turns: ChatTurn[] = [];
  #answer: HTMLElement | undefined;
  #busy = false;

  constructor(worker: Worker, onDiscard: () => void, fail: (error: unknown) => void) {
    this.#worker = worker;
    this.#onDiscard = onDiscard;
    this.#fail = fail;
    this.#button('pause', () => worker.pause());
    this.#button('resume', () => worker.goOn());
    this.#button('stop', () => worker.stop());
    this.#button('discard', async () => {
      const learnt = this.#run && this.#run.step > 0;
      if (learnt && !confirm('Forget this run, its checkpoints and its adapter?')) return;
      await worker.discard();
      this.hide();
      this.#onDiscard();
    });
    this.#button('download-adapter', () => this.#download('adapter'));
    this.#button('download-merged', () => this.#download('merged'));
    at('chat').addEventListener('submit', (event) => {
      event.preventDefault();
      void this.#chat();
    });
    at('chat-stop').addEventListener('click', () => void worker.stopChat());
    at('message').addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      at<HTMLFormElement>('chat').requestSubmit();
    });
  }

  /** Buttons wait for what they began, and show what goes wrong. */
  #button(id: string, act: () => Promise<unknown>): void {
    const button = at<HTMLButtonElement>(id);
    button.addEventListener('click', async () => {
      button.disabled = true;
      try {
        await act();
      } catch (error) {
        this.#fail(error);
      } finally {
        button.disabled = false;
      }
    });
  }

  hide(): void {
    this.#run = undefined;
    at('run').hidden = true;
  }

  /** Shows a run as it stands. */
  show(run: RunView): void {
    const { phase, model, data, settings, step, totalSteps, history, evaluations, failure } = run;
    const fresh = !this.#run;
    const moved = this.#run?.phase !== phase;
    this.#run = run;
    at('run').hidden = false;
    at('run-title').textContent = titles[phase];
    if (fresh) {
      this.#turns = [];
      at('turns').replaceChildren();
      for (const id of ['f-speed', 'f-memory', 'f-left']) at(id).textContent = '–';
      at('run-title').focus();
    }
    const parts = [model.name, settings.method === 'qlora' ? 'QLoRA' : 'LoRA', `rank ${settings.r}`, data.name];
    at('run-facts').textContent = parts.join(', ');
    const goesOn = step ? `What was learnt up to step ${step} is saved: “Go on” takes it from there.` : '';
    at('run-failure').hidden = failure === undefined;
    at('run-failure').replaceChildren(el('p', '', failure ?? ''), ...(goesOn ? [el('p', '', goesOn)] : []));
    this.#progress(step, totalSteps);
    this.#chart.set(history, evaluations);
    at('f-loss').textContent = history.at(-1)?.loss.toFixed(3) ?? '–';
    this.#held(evaluations.at(-1)?.loss);
    if (phase !== 'training') at('f-left').textContent = '–';
    const active = phase === 'training' || phase === 'loading';
    const waits = phase === 'paused' || phase === 'interrupted';
    at('pause').hidden = !active;
    at('resume').hidden = !waits;
    at('stop').hidden = !(active || waits);
    const usable = phase === 'done' || phase === 'paused';
    at('chat-section').hidden = !usable;
    at('download-section').hidden = !usable;
    this.#samples(run);
    if (moved && phase === 'done') document.title = 'Done · lowrank';
    if (phase !== 'done') document.title = 'lowrank: fine-tune in this tab';
  }

  #progress(step: number, totalSteps: number): void {
    at<HTMLProgressElement>('progress').value = totalSteps ? step / totalSteps : 0;
    at('f-step').textContent = `${step} / ${totalSteps}`;
  }

  steps(steps: readonly StepFacts[]): void {
    for (const { step, loss } of steps) this.#chart.add(step, loss);
    const last = steps.at(-1);
    if (!last) return;
    this.#progress(last.step, last.totalSteps);
    at('f-loss').textContent = last.loss.toFixed(3);
    at('f-speed').textContent =
      `${last.tokensPerSecond >= 10 ? Math.round(last.tokensPerSecond) : last.tokensPerSecond.toFixed(1)} tok/s`;
    at('f-memory').textContent = bytes(last.peakBytes);
    at('f-left').textContent = duration(last.secondsLeft);
    document.title = `${Math.round((100 * last.step) / last.totalSteps)} % · lowrank`;
  }

  evaluation(step: number, loss: number): void {
    this.#chart.addHeld(step, loss);
    this.#held(loss);
  }

  #held(loss: number | undefined): void {
    at('f-held').textContent = loss?.toFixed(3) ?? '–';
    at('f-held').title = loss === undefined ? '' : String(loss);
  }

  #samples({ samples, phase }: RunView): void {
    at('samples-section').hidden = samples.length === 0;
    const answer = (title: string, text: string, right = false) =>
      el('div', right ? 'right' : '', el('h3', '', title), el('pre', '', text.trim() || ' '));
    at('samples').replaceChildren(
      ...samples.map(({ prompt, expected, before, after }) => {
        const right = after?.trim() === expected.trim();
        const soon = phase === 'done' ? '' : '…';
        const answers = [
          answer('before', before, before.trim() === expected.trim()),
          answer('after', after ?? soon, right),
          answer('expected', expected),
        ];
        return el('div', 'sample', el('p', '', prompt.trim()), el('div', 'answers', ...answers));
      }),
    );
  }

  token(text: string): void {
    if (!this.#answer) return;
    this.#answer.textContent += text;
    at('turns').scrollTop = at('turns').scrollHeight;
  }

  async #chat(): Promise<void> {
    const input = at<HTMLTextAreaElement>('message');
    const content = input.value.trim();
    if (!content || this.#busy) return;
    this.#busy = true;
    const adapted = at<HTMLInputElement>('adapted').checked;
    input.value = '';
    this.#turns.push({ role: 'user', content });
    this.#turn('user', 'you', content);
    this.#answer = this.#turn('assistant', adapted ? 'tuned model' : 'base model', '');
    at('chat-stop').hidden = false;
    at<HTMLButtonElement>('send').disabled = true;
    try {
      const answer = await this.#worker.chat(this.#turns, adapted);
      this.#turns.push({ role: 'assistant', content: answer });
    } catch (error) {
      this.#turns.pop();
      this.#fail(error);
    } finally {
      this.#busy = false;
      this.#answer = undefined;
      at('chat-stop').hidden = true;
      at<HTMLButtonElement>('send').disabled = false;
      input.focus();
    }
  }

  #turn(role: ChatTurn['role'], name: string, text: string): HTMLElement {
    const body = el('pre', '', text);
    at('turns').append(el('div', `turn ${role}`, el('b', '', name), body));
    at('turns').scrollTop = at('turns').scrollHeight;
    return body;
  }

  async #download(what: 'adapter' | 'merged'): Promise<void> {
    const file = await this.#worker.download(what);
    const link = el('a', '');
    link.href = URL.createObjectURL(file);
    link.download = `${what === 'adapter' ? 'adapter' : 'merged-model'}.zip`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }
}
