/** CSV and TSV records, through Papa Parse. */
import { LowrankError } from '@lowrank/tensor';
import Papa from 'papaparse';
import { type DataInput, inputName, place, type ReadOptions, type SourceRecord, wholeText } from './data/input.ts';

export interface CsvOptions extends ReadOptions {
  /** Found from the text where not given. */
  readonly delimiter?: string;
}

/** Records of CSV text whose first row names the columns; every value is a string. A row of another length is an error. */
export async function* readCsv(input: DataInput, options: CsvOptions = {}): AsyncGenerator<SourceRecord> {
  const name = inputName(input, options);
  const text = await wholeText(input, name);
  const { data, errors, meta } = Papa.parse<Record<string, string>>(text, {
    header: true,
    skipEmptyLines: true,
    ...(options.delimiter ? { delimiter: options.delimiter } : {}),
  });
  // one column has no delimiter to find, which is no error
  const bad = errors.find((e) => e.type !== 'Delimiter');
  if (bad) {
    const where = bad.row === undefined ? name : place('record', bad.row + 1, name);
    throw new LowrankError('data', 'broken CSV', `${where}: ${bad.message}`, `Columns: ${meta.fields?.join(', ')}`);
  }
  for (const [i, value] of data.entries()) yield { value, where: place('record', i + 1, name) };
}
