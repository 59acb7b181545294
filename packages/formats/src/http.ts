import { FormatError } from './error.ts';
import type { ByteSource } from './source.ts';
import { checkRange } from './source.ts';

/** How to ask for the ranges of a URL. */
export interface HttpSourceOptions {
  /** Headers sent with each request (`Authorization`, …). */
  headers?: Record<string, string>;
  /** The `fetch` to use; a place for retries, caches and tests. Default: the global one. */
  fetch?: typeof globalThis.fetch;
  /** Ends requests under way. The signal's own reason is thrown. */
  signal?: AbortSignal;
  /** Name in error messages; default the URL without its query. */
  name?: string;
}

/**
 * A source over a URL whose server answers `Range` requests. One request of one byte finds the size; each `read` is one request.
 * Throws `FormatError` when the server ignores ranges, answers another range than asked, fails, or when the file changes in between.
 */
export async function httpSource(url: string | URL, options: HttpSourceOptions = {}): Promise<ByteSource> {
  const file = options.name ?? withoutQuery(url);
  const first = await request(url, file, options, 0, 1);
  if (first.status === 416 && first.range?.total === 0) {
    await first.response.body?.cancel();
    return emptySource(file);
  }
  const { range } = accept(first, file, 0, undefined);
  await readBody(first.response, file, 0, range.end - range.start + 1);
  const etag = first.response.headers.get('etag');
  const source: ByteSource = {
    name: file,
    size: range.total,
    async read(offset, length) {
      checkRange(source, offset, length);
      if (length === 0) return new Uint8Array(0);
      const answer = await request(url, file, options, offset, length);
      const { range } = accept(answer, file, offset, length);
      if (range.total !== source.size || answer.response.headers.get('etag') !== etag) {
        await answer.response.body?.cancel();
        throw new FormatError('http', 'the file must not change while it is read', {
          file,
          offset,
          facts: `size ${source.size} is now ${range.total}, ETag ${etag} is now ${answer.response.headers.get('etag')}`,
          hint: 'Open it again.',
        });
      }
      return readBody(answer.response, file, offset, length);
    },
  };
  return source;
}

interface Answer {
  response: Response;
  status: number;
  range: { start: number; end: number; total: number } | undefined;
}

async function request(
  url: string | URL,
  file: string,
  options: HttpSourceOptions,
  offset: number,
  length: number,
): Promise<Answer> {
  const fetch = options.fetch ?? globalThis.fetch;
  const headers = { ...options.headers, Range: `bytes=${offset}-${offset + length - 1}` };
  let response: Response;
  try {
    response = await fetch(url, { headers, ...(options.signal ? { signal: options.signal } : {}) });
  } catch (cause) {
    options.signal?.throwIfAborted();
    throw new FormatError('http', 'the server must answer', { file, offset, facts: describe(cause), cause });
  }
  return { response, status: response.status, range: parseContentRange(response.headers.get('content-range')) };
}

/** The answer if it is a 206 with the asked range; a `length` of undefined asks for one byte of a file of unknown size. */
function accept(answer: Answer, file: string, offset: number, length: number | undefined) {
  const { response, status, range } = answer;
  const end = offset + (length ?? 1) - 1;
  const fail = (rule: string, facts: string, hint?: string): never => {
    response.body?.cancel().catch(() => {});
    throw new FormatError('http', rule, { file, offset, facts, hint });
  };
  if (status === 200) {
    return fail(
      'the server must honour Range requests',
      'it answered 200 with the whole file',
      'Download the file and open it from disk, or serve it from a server with range support.',
    );
  }
  if (status !== 206)
    return fail('the server must answer 206', `it answered ${status} ${response.statusText}`.trimEnd());
  if (range === undefined) {
    return fail(
      'a 206 answer must carry Content-Range with the size',
      `got ${response.headers.get('content-range') ?? 'none'}`,
      'For a request across origins the server must list Content-Range in Access-Control-Expose-Headers.',
    );
  }
  if (range.start !== offset || range.end !== end || range.total <= end) {
    return fail(
      'the server must send the range asked for',
      `asked for bytes ${offset}-${end}, got ${range.start}-${range.end} of ${range.total}`,
    );
  }
  return { range };
}

/** The whole body, which must be `length` bytes; a longer one is cut off, never stored. */
async function readBody(response: Response, file: string, offset: number, length: number): Promise<Uint8Array> {
  const out = new Uint8Array(length);
  let filled = 0;
  let failure: unknown;
  const reader = response.body?.getReader();
  while (reader !== undefined) {
    const part = await reader.read().catch((cause: unknown) => {
      failure = cause;
      return { done: true, value: undefined } as const;
    });
    if (part.done || part.value === undefined) break;
    if (filled + part.value.byteLength > length) {
      await reader.cancel().catch(() => {});
      throw new FormatError('http', 'the body must be as long as the range', {
        file,
        offset,
        facts: `more than the ${length} bytes asked for arrived`,
      });
    }
    out.set(part.value, filled);
    filled += part.value.byteLength;
  }
  if (filled === length) return out;
  throw new FormatError('http', 'the body must be as long as the range', {
    file,
    offset: offset + filled,
    facts: `${filled} of ${length} bytes arrived${failure === undefined ? '' : `, then ${describe(failure)}`}`,
    hint: 'The connection was cut; try again.',
    cause: failure,
  });
}

/** `bytes 0-9/100` or `bytes * /0` (without the space); undefined for anything else. */
function parseContentRange(value: string | null): Answer['range'] {
  const match = /^bytes (?:(\d{1,15})-(\d{1,15})|\*)\/(\d{1,15})$/.exec(value?.trim() ?? '');
  if (match === null) return undefined;
  return { start: Number(match[1] ?? 0), end: Number(match[2] ?? -1), total: Number(match[3]) };
}

function emptySource(name: string): ByteSource {
  const source: ByteSource = {
    name,
    size: 0,
    async read(offset, length) {
      checkRange(source, offset, length);
      return new Uint8Array(0);
    },
  };
  return source;
}

function withoutQuery(url: string | URL): string {
  return String(url).replace(/[?#].*$/s, '');
}

function describe(cause: unknown): string {
  if (!(cause instanceof Error)) return String(cause);
  return cause.cause instanceof Error ? `${cause.message} (${cause.cause.message})` : cause.message;
}
