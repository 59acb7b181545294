import type { LoraModel } from '@lowrank/lora';
import { type CausalLm, generate, type ModelConfig, type ModelFiles, type Tokenizer } from '@lowrank/models';
import { type Backend, Device } from '@lowrank/tensor';
import type { RunSettings } from '../protocol.ts';
import type { Question } from './data.ts';
import { addAdapter, loadWeights } from './training.ts';

/** What a run is about, before anything is on a device. */
export interface Subject {
  readonly files: ModelFiles;
  readonly config: ModelConfig;
  readonly tokenizer: Tokenizer;
}

/** A model with its adapter on a device. Closing it frees everything, the backend too. */
export class Session {
  readonly subject: Subject;
  readonly device: Device;
  readonly model: CausalLm;
  readonly lora: LoraModel;

  private constructor(subject: Subject, device: Device, model: CausalLm, lora: LoraModel) {
    this.subject = subject;
    this.device = device;
    this.model = model;
    this.lora = lora;
  }

  /** The backend becomes the session's: it is closed with it, or when opening fails. */
  static async open(
    subject: Subject,
    backend: Backend,
    settings: RunSettings,
    onProgress: (share: number) => void,
  ): Promise<Session> {
    const device = new Device(backend);
    let model: CausalLm | undefined;
    try {
      model = await loadWeights(device, subject.files, settings, onProgress);
      return new Session(subject, device, model, addAdapter(model, device, settings, subject.files.name));
    } catch (error) {
      model?.dispose();
      await device.close().catch(() => {});
      throw error;
    }
  }

  /** Greedy answers to questions, all at once. */
  async answer(questions: readonly Question[], signal: AbortSignal | undefined): Promise<string[]> {
    const out = questions.map(() => '');
    if (!questions.length) return out;
    const prompts = questions.map((q) => q.promptIds);
    const options = { tokenizer: this.subject.tokenizer, maxNewTokens: 48, ...(signal ? { signal } : {}) };
    for await (const { prompt, text } of generate(this.model, prompts, options)) out[prompt] += text;
    return out;
  }

  /** Runs `fn` on the base model alone. */
  async withoutAdapter<T>(fn: () => Promise<T>): Promise<T> {
    this.lora.disableAdapters();
    try {
      return await fn();
    } finally {
      this.lora.enableAdapters();
    }
  }

  async close(): Promise<void> {
    // after a lost device these throw; there is nothing left to free then
    try {
      this.lora.dispose();
      this.model.dispose();
    } catch {}
    await this.device.close().catch(() => {});
  }
}
