import type { FileSink } from '@lowrank/formats';
import { type LoraModel, saveAdapter } from '@lowrank/lora';
import { mergeAdapter, saveModel } from '@lowrank/merge';
import type { CausalLm } from '@lowrank/models';
import { LowrankError } from '@lowrank/tensor';
import { Zip, ZipPassThrough } from 'fflate';
import type { RunSettings } from '../protocol.ts';
import { PrivateFolder } from './opfs.ts';
import { quant } from './training.ts';

const downloads = new PrivateFolder('downloads');

/** Without the larger fields of zip64, which the zip library does not write. */
const largestZip = 4 * 2 ** 30 - 2 ** 20;

/** A zip in the private storage, written piece by piece: the memory holds no more than a piece. */
class PrivateZip {
  readonly #name: string;
  readonly #out: Awaited<ReturnType<PrivateFolder['create']>>;
  readonly #zip: Zip;
  #bytes = 0;
  #error: unknown;

  private constructor(name: string, out: Awaited<ReturnType<PrivateFolder['create']>>) {
    this.#name = name;
    this.#out = out;
    this.#zip = new Zip((error, chunk) => {
      try {
        if (error) throw error;
        out.write(chunk);
        this.#bytes += chunk.byteLength;
      } catch (e) {
        this.#error ??= e;
      }
    });
  }

  static async create(name: string): Promise<PrivateZip> {
    await downloads.remove(name);
    return new PrivateZip(name, await downloads.create(name));
  }

  /** Opens a file of the zip; weights do not compress, so nothing is. */
  entry(path: string): FileSink {
    const entry = new ZipPassThrough(path);
    this.#zip.add(entry);
    return {
      write: (bytes) => {
        if (this.#bytes + bytes.byteLength > largestZip)
          throw new LowrankError(
            'download',
            'the folder is too large for a zip file',
            path,
            'Download the adapter and merge it with the command line',
          );
        entry.push(bytes);
        this.#check();
      },
      commit: async () => {
        entry.push(new Uint8Array(0), true);
        this.#check();
      },
      abort: async () => entry.push(new Uint8Array(0), true),
    };
  }

  #check(): void {
    if (this.#error) throw this.#error;
  }

  async add(path: string, bytes: Uint8Array): Promise<void> {
    const entry = this.entry(path);
    await entry.write(bytes);
    await entry.commit();
  }

  async finish(): Promise<File> {
    this.#zip.end();
    this.#out.close();
    this.#check();
    return (await downloads.file(this.#name))!;
  }

  abandon(): void {
    this.#zip.terminate();
    this.#out.close();
  }
}

async function zipped(name: string, fill: (zip: PrivateZip) => Promise<void>): Promise<File> {
  const zip = await PrivateZip.create(name);
  try {
    await fill(zip);
  } catch (error) {
    zip.abandon();
    throw error;
  }
  return zip.finish();
}

/** A PEFT folder as a zip, with what the command line needs to know of the run. */
export function adapterZip(lora: LoraModel, base: string, settings: RunSettings): Promise<File> {
  return zipped('adapter.zip', async (zip) => {
    for (const [name, bytes] of await saveAdapter(lora, 'default')) await zip.add(`adapter/${name}`, bytes);
    const { method, backend: _backend, heldOut, shown, ...rest } = settings;
    const run = {
      model: base,
      method,
      ...(method === 'qlora' ? quant : {}),
      evalRows: heldOut || undefined,
      samples: shown,
      ...rest,
    };
    await zip.add('adapter/lowrank.json', new TextEncoder().encode(`${JSON.stringify(run, undefined, 2)}\n`));
  });
}

/** The adapter merged into the base, as a Hugging Face folder in a zip. The model is as it was when this returns. */
export function mergedZip(
  model: CausalLm,
  lora: LoraModel,
  parts: {
    config: Readonly<Record<string, unknown>>;
    companions: ReadonlyMap<string, Uint8Array>;
    onTensor: (name: string) => void;
  },
): Promise<File> {
  return zipped('merged.zip', async (zip) => {
    const report = await mergeAdapter(lora, { safe: true, keepOriginals: true, dense: 'f32' });
    try {
      await saveModel(model, async (name) => zip.entry(`merged/${name}`), {
        config: parts.config,
        dtype: 'bf16',
        onTensor: parts.onTensor,
      });
      for (const [name, bytes] of parts.companions) await zip.add(`merged/${name}`, bytes);
    } finally {
      await report.unmerge();
      report.dispose();
    }
  });
}
