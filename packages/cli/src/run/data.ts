import type { DecoderConfig, Tokenizer } from '@lowrank/models';
import { LowrankError } from '@lowrank/tensor';
import { type Dataset, encodeDataset, type SourceRecord } from '@lowrank/trainer';
import { readFileRecords } from '@lowrank/trainer/node';
import type { Settings } from '../options/schema.ts';
import type { Console } from '../report/console.ts';

/** The records of a file. Throws where there are none. */
async function* recordsOf(path: string): AsyncGenerator<SourceRecord> {
  let none = true;
  for await (const record of readFileRecords(path)) {
    none = false;
    yield record;
  }
  if (none) throw new LowrankError('data', 'the file holds no records', path);
}

/** Encodes the records of a file as the settings say. */
export async function loadDataset(
  path: string,
  tokenizer: Tokenizer,
  config: DecoderConfig,
  settings: Settings,
  ui: Console,
): Promise<Dataset> {
  const { prompt, completion, text, maxLength, truncation, lossOn, onMasked, appendEos } = settings;
  const data = await encodeDataset(recordsOf(path), tokenizer, {
    prompt,
    completion,
    text,
    maxLength,
    truncation,
    lossOn,
    onMasked,
    appendEos,
    contextLength: config.maxPositions,
    onProgress: (n) => n % 500 === 0 && ui.status(`reading ${path}: ${n} records`),
  } as Parameters<typeof encodeDataset>[2]);
  ui.clear();
  const most = data.largestId;
  if (most >= config.vocabSize)
    throw new LowrankError(
      'data',
      'the tokenizer gives ids that the model does not know',
      `${most}, of ${config.vocabSize}`,
      'It belongs to another model',
    );
  if (data.truncated) ui.note(`${path}: ${data.truncated} of ${data.records} samples cut at ${maxLength} tokens`);
  if (data.dropped.length)
    ui.note(
      `${path}: ${data.dropped.length} samples left out, nothing of them would be learnt (first: ${data.dropped[0]})`,
    );
  return data;
}

/** Records to learn, and those held out: a file of their own, or the last rows. */
export async function loadDatasets(
  tokenizer: Tokenizer,
  config: DecoderConfig,
  settings: Settings,
  ui: Console,
): Promise<{ data: Dataset; evalData: Dataset | undefined }> {
  const { evalData, evalRows } = settings;
  if (evalData !== undefined && evalRows !== undefined)
    throw new LowrankError(
      'data',
      '--eval-data and --eval-rows exclude each other',
      '',
      'Held-out records come from one of them',
    );
  const all = await loadDataset(settings.data!, tokenizer, config, settings, ui);
  if (evalData !== undefined)
    return { data: all, evalData: await loadDataset(evalData, tokenizer, config, settings, ui) };
  if (evalRows === undefined) return { data: all, evalData: undefined };
  if (evalRows >= all.length)
    throw new LowrankError('data', '--eval-rows leaves nothing to learn', `${evalRows} of ${all.length} samples`);
  return { data: all.slice(0, all.length - evalRows), evalData: all.slice(all.length - evalRows) };
}
