import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { folderSinks } from '@lowrank/formats/node';
import { saveModel } from '@lowrank/merge';
import { BlockwiseWeight, toBnbTensors } from '@lowrank/nf4';
import { type FloatDType, type LinearWeight, LowrankError } from '@lowrank/tensor';
import type { Settings } from '../options/schema.ts';
import type { Console } from '../report/console.ts';
import { bytes, ownCommand } from '../report/format.ts';
import { storedDtypes } from '../run/files.ts';
import { checkOutputFolder, copyCompanions, writeFolder } from '../run/output.ts';
import { inputsOf, openSession, type Session } from '../run/session.ts';

/** `lowrank quantize`: a checkpoint in 4 bits, byte for byte as bitsandbytes would write it. */
export async function quantize(settings: Settings, ui: Console): Promise<number> {
  await using session = await openSession(settings, ui, {
    quantized: true,
    check: async (subject) => {
      if (subject.config.quantization)
        throw new LowrankError('quantize', 'the model is quantized already', subject.spec);
      await checkOutputFolder(settings.output!, { ...settings, inputs: inputsOf(subject) });
    },
  });
  const size = await saveSession(session, settings, ui, { quantized: true });
  ui.emit({ output: settings.output, bytes: size });
  ui.say(
    `Saved ${settings.output}: ${bytes(size)}. Train on it with\n  ${ownCommand('train', '--model', settings.output!, '--data')} … --output …`,
  );
  return 0;
}

/** Writes a model's weights, configuration and tokenizer as a Hugging Face folder; gives the bytes of its weights. */
export async function saveSession(
  session: Session,
  settings: Settings,
  ui: Console,
  options: { quantized: boolean },
): Promise<number> {
  const { model, subject, tokenizer } = session;
  const stored = await storedDtypes(subject.files, subject.config.json);
  const dtype: FloatDType =
    settings.dtype && settings.dtype !== 'auto' ? settings.dtype : stored('model.embed_tokens.weight');
  const quantized = async (name: string, weight: LinearWeight) => {
    if (!(weight instanceof BlockwiseWeight))
      throw new LowrankError('save', 'unknown format of a weight', `${name}: ${weight.format}`);
    return toBnbTensors(name, weight, dtype);
  };
  let size = 0;
  await writeFolder(settings.output!, async (work) => {
    const open = folderSinks(work);
    const files = await saveModel(model, open, {
      config: subject.config.json,
      dtype,
      ...(options.quantized ? { quantized } : {}),
      ...(settings.maxShardSize ? { maxShardBytes: settings.maxShardSize } : {}),
      onTensor: (name) => ui.status(`writing ${name}`),
    });
    await copyCompanions(subject.files, tokenizer, work);
    for (const file of files.filter((f) => f.endsWith('.safetensors'))) size += (await stat(join(work, file))).size;
  });
  ui.clear();
  return size;
}
