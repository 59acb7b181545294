import { LowrankError, nearest } from '@lowrank/tensor';

import type { SourceRecord } from './input.ts';

const hole = /\{\{|\}\}|\{([^{}]*)\}/g;

/** A column as text. Missing and null are errors that say what there is. */
export function column({ value, where }: SourceRecord, name: string): string {
  const found = Object.hasOwn(value, name) ? value[name] : undefined;
  if (typeof found === 'string') return found;
  if (typeof found === 'number' || typeof found === 'boolean' || typeof found === 'bigint') return String(found);
  const columns = Object.keys(value);
  if (found === undefined || found === null) {
    const near = nearest(name, columns, 1)[0];
    const facts = `${where} has no "${name}"; its columns: ${columns.join(', ') || 'none'}`;
    throw new LowrankError('data', 'column missing', facts, near ? `Did you mean {${near}}?` : '');
  }
  throw new LowrankError(
    'data',
    'column is not text',
    `${where}: "${name}" is ${Array.isArray(found) ? 'a list' : 'an object'}`,
  );
}

/** Fills `{column}` from a record; `{{` and `}}` are braces. */
export function fillTemplate(template: string, record: SourceRecord): string {
  return template.replace(hole, (match, name: string | undefined) => {
    if (match === '{{') return '{';
    if (match === '}}') return '}';
    return column(record, name!);
  });
}
