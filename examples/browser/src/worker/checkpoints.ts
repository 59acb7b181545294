import { blobSource, openSafetensors, type SafetensorsDtype, SafetensorsWriter } from '@lowrank/formats';
import { type DType, LowrankError } from '@lowrank/tensor';
import {
  type Checkpoint,
  type CheckpointStore,
  keptSteps,
  type SavedTensor,
  type TrainerState,
} from '@lowrank/trainer';
import type { PrivateFolder } from './opfs.ts';

const stored: Readonly<Record<DType, SafetensorsDtype>> = {
  f32: 'F32',
  f16: 'F16',
  bf16: 'BF16',
  i32: 'I32',
  u32: 'U32',
  u8: 'U8',
};
const read = new Map(Object.entries(stored).map(([dtype, name]) => [name, dtype as DType]));

const tensorFile = 'trainer.safetensors';
const stateFile = 'trainer_state.json';
/** Written last: a folder without it was cut off by the page's end. */
const wholeFile = 'whole.json';

interface Place {
  readonly name: string;
  readonly step: number;
  readonly serial: number;
}

/**
 * Checkpoints as folders `checkpoint-<step>-<serial>` of the private storage, which cannot rename. A folder counts once the file that is
 * written last says what sizes the others have; until then the one before stays.
 */
export class PrivateCheckpoints implements CheckpointStore {
  readonly #folder: PrivateFolder;
  readonly #keep: number;

  constructor(folder: PrivateFolder, keep = 2) {
    this.#folder = folder;
    this.#keep = keep;
  }

  async save({ state, tensors }: Checkpoint): Promise<string> {
    const there = await this.#all();
    const serial = Math.max(0, ...there.map((p) => p.serial)) + 1;
    const name = `checkpoint-${state.step}-${serial}`;
    const folder = this.#folder.in(name);
    const declared = [...tensors].map(([tensor, { dtype, shape }]) => ({ name: tensor, dtype: stored[dtype], shape }));
    try {
      const file = await folder.create(tensorFile);
      let bytes = 0;
      try {
        const writer = new SafetensorsWriter(
          { write: (part) => file.write(part) },
          declared,
          undefined,
          `${name}/${tensorFile}`,
        );
        bytes = writer.byteLength;
        for (const tensor of writer.tensors) await writer.write(tensor.name, await tensors.get(tensor.name)!.read());
        await writer.finish();
      } finally {
        file.close();
      }
      const json = JSON.stringify(state);
      await folder.write(stateFile, json);
      const sizes = { [tensorFile]: bytes, [stateFile]: new TextEncoder().encode(json).byteLength };
      await folder.write(wholeFile, JSON.stringify(sizes));
    } catch (error) {
      await this.#folder.remove(name).catch(() => {});
      throw error;
    }
    await this.#prune({ name, step: state.step, serial }, there, state.best?.step);
    return name;
  }

  async load(which: 'latest' | 'best' | number = 'latest') {
    const whole = await this.#whole();
    const latest = whole.at(-1);
    if (!latest) return undefined;
    const step = which === 'latest' ? latest.step : which === 'best' ? (await this.#state(latest)).best?.step : which;
    const place = whole.findLast((p) => p.step === step);
    if (!place) return undefined;
    const file = await openSafetensors(blobSource((await this.#folder.in(place.name).file(tensorFile))!, place.name));
    const tensors = new Map<string, SavedTensor>();
    for (const [name, { dtype, shape }] of file.tensors)
      tensors.set(name, { dtype: read.get(dtype)!, shape, read: () => file.read(name) });
    return { state: await this.#state(place), tensors, where: place.name };
  }

  /** The state of the latest whole checkpoint. */
  async latest(): Promise<TrainerState | undefined> {
    const place = (await this.#whole()).at(-1);
    return place && this.#state(place);
  }

  async #state(place: Place): Promise<TrainerState> {
    const state = await this.#folder.in(place.name).json<TrainerState>(stateFile);
    if (!state) throw new LowrankError('resume', 'checkpoint is damaged', place.name, 'Start the run again');
    return state;
  }

  async #all(): Promise<Place[]> {
    const names = await this.#folder.names();
    return names
      .flatMap((name) => {
        const match = /^checkpoint-(\d+)-(\d+)$/.exec(name);
        return match ? [{ name, step: Number(match[1]), serial: Number(match[2]) }] : [];
      })
      .sort((a, b) => a.step - b.step || a.serial - b.serial);
  }

  async #whole(): Promise<Place[]> {
    const out: Place[] = [];
    for (const place of await this.#all()) {
      const folder = this.#folder.in(place.name);
      const sizes = await folder.json<Record<string, number>>(wholeFile);
      if (!sizes) continue;
      const files = await Promise.all(Object.keys(sizes).map((name) => folder.file(name)));
      if (Object.values(sizes).every((size, i) => files[i]?.size === size)) out.push(place);
    }
    return out;
  }

  async #prune(saved: Place, before: readonly Place[], best: number | undefined): Promise<void> {
    const kept = keptSteps([...before.map((p) => p.step), saved.step], this.#keep, best);
    for (const { name, step } of before) if (step === saved.step || !kept.has(step)) await this.#folder.remove(name);
  }
}
