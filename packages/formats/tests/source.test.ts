import { writeFileSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type ByteSource, blobSource, bytesSource, httpSource, openSafetensors } from '../src/index.ts';
import { fileSource } from '../src/node.ts';
import { ChunkMemory, lendRange } from '../src/source.ts';
import { collect, fixture, formatError, temporaryFolder } from './support.ts';

const bytes = fixture('small.safetensors');

interface Server extends AsyncDisposable {
  url: string;
  ranges: string[];
}

/** A server of `bytes` with ranges, or one that behaves as `listener` says. */
async function serve(listener?: RequestListener): Promise<Server> {
  const ranges: string[] = [];
  const server = createServer((request, response) => {
    ranges.push(request.headers.range ?? '');
    if (listener !== undefined) return listener(request, response);
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '')!;
    const part = bytes.subarray(Number(first), Number(last) + 1);
    const range = `bytes ${first}-${Number(first) + part.length - 1}/${bytes.length}`;
    response.writeHead(206, { 'content-range': range, etag: '"v1"' }).end(part);
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/model.safetensors?token=secret`;
  return {
    url,
    ranges,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  };
}

describe('sources', () => {
  const kinds: [string, () => Promise<ByteSource & Partial<AsyncDisposable>>][] = [
    ['bytes', async () => bytesSource(bytes, 'small')],
    ['a Blob', async () => blobSource(new File([bytes], 'small.safetensors'))],
    [
      'a file',
      async () => {
        const folder = temporaryFolder();
        const path = join(folder.path, 'small.safetensors');
        writeFileSync(path, bytes);
        const source = await fileSource(path);
        return { ...source, close: () => source.close().finally(() => folder[Symbol.dispose]()) };
      },
    ],
    [
      'a URL',
      async () => {
        const server = await serve();
        const source = await httpSource(server.url);
        return { ...source, close: () => Promise.resolve(server[Symbol.asyncDispose]()) };
      },
    ],
  ];

  test.each(kinds)('%s gives exactly the parts asked for, and reads tensors', async (_, create) => {
    const source = await create();
    expect(source.size).toBe(bytes.length);
    expect(new Uint8Array(await source.read(5, 100))).toEqual(bytes.slice(5, 105));
    expect((await source.read(bytes.length, 0)).length).toBe(0);
    for (const [offset, length] of [
      [-1, 1],
      [0, bytes.length + 1],
      [bytes.length, 1],
      [0.5, 1],
      [0, Number.NaN],
      [2 ** 60, 8],
    ] as const) {
      expect((await formatError(source.read(offset, length))).message).toMatch(/^read: must lie inside the source/);
    }
    await using file = await openSafetensors(source);
    const chunks = await collect(file.stream('model.f64.weight', 20));
    expect(chunks.map((chunk) => chunk.length)).toEqual(Array(7).fill(16).concat(8));
    const place = file.tensor('model.f64.weight');
    expect(Buffer.concat(chunks)).toEqual(
      Buffer.from(bytes.slice(place.byteOffset, place.byteOffset + place.byteLength)),
    );
    // Lent chunks are the same, as long as they last.
    const lent: Uint8Array[] = [];
    for await (const chunk of file.lend('model.f64.weight', 20)) lent.push(chunk.slice());
    expect(lent.map((chunk) => [...chunk])).toEqual(chunks.map((chunk) => [...chunk]));
  });

  test('lent chunks use a few pieces of memory, also where the caller breaks off', async () => {
    using folder = temporaryFolder();
    const path = join(folder.path, 'numbers');
    const data = Uint8Array.from({ length: 10_000 }, (_, i) => i * 7 + (i >> 8));
    writeFileSync(path, data);
    const source = await fileSource(path);
    const memory = new ChunkMemory();
    const seen = new Set<ArrayBufferLike>();
    for (const last of [10_000, 300, 10_000]) {
      const got: number[] = [];
      for await (const chunk of lendRange(source, 8, 9_992, 96, 8, memory)) {
        seen.add(chunk.buffer);
        got.push(...chunk);
        await Promise.resolve();
        if (got.length >= last) break;
      }
      expect(got).toEqual([...data.subarray(8, 8 + got.length)]);
      expect(got.length).toBe(last === 300 ? 384 : 9_992);
    }
    expect(seen.size).toBeLessThanOrEqual(6);
    await source.close();
  });

  test('a read that fails is thrown when its chunk comes', async () => {
    let reads = 0;
    const source: ByteSource = {
      name: 'fails',
      size: 100,
      read: () => Promise.reject(new Error('not asked')),
      readInto: async () => {
        if (reads++ === 1) throw new Error('the second');
      },
    };
    const stream = lendRange(source, 0, 100, 10, 1, new ChunkMemory());
    expect((await stream.next()).value?.length).toBe(10);
    await expect(stream.next()).rejects.toThrow('the second');
    expect((await stream.next()).done).toBe(true);
  });

  test('a name in errors is the URL without its query', async () => {
    await using server = await serve();
    expect((await httpSource(server.url)).name).toBe(server.url.replace(/\?.*/, ''));
  });

  test('a URL is asked for the header and the tensor, nothing else', async () => {
    await using server = await serve();
    const file = await openSafetensors(await httpSource(server.url));
    const { byteOffset, byteLength } = file.tensor('scalar');
    expect(new Float32Array((await file.read('scalar')).slice().buffer)).toEqual(Float32Array.of(1.5));
    const header = Math.min(...[...file.tensors.values()].map((tensor) => tensor.byteOffset));
    expect(server.ranges).toEqual([
      'bytes=0-0',
      'bytes=0-7',
      `bytes=8-${header - 1}`,
      `bytes=${byteOffset}-${byteOffset + byteLength - 1}`,
    ]);
  });

  test('headers and a fetch of one’s own are used', async () => {
    await using server = await serve();
    const seen: (string | null)[] = [];
    const fetch: typeof globalThis.fetch = (url, init) => {
      seen.push(new Headers(init?.headers).get('authorization'));
      return globalThis.fetch(url, init);
    };
    await httpSource(server.url, { headers: { Authorization: 'Bearer x' }, fetch });
    expect(seen).toEqual(['Bearer x']);
  });
});

describe('servers that do not do as they should', () => {
  const cases: [string, RequestListener, RegExp][] = [
    ['ignores ranges', (_, response) => void response.end(bytes), /must honour Range requests: it answered 200/],
    ['has no such file', (_, response) => void response.writeHead(404).end('no'), /it answered 404 Not Found/],
    [
      'hides the size',
      (_, response) => void response.writeHead(206).end('x'),
      /must carry Content-Range.*Access-Control-Expose-Headers/s,
    ],
    [
      'does not know the size',
      (_, response) => void response.writeHead(206, { 'content-range': 'bytes 0-0/*' }).end('x'),
      /must carry Content-Range with the size: got bytes 0-0\/\*/,
    ],
    [
      'sends another range',
      (_, response) => void response.writeHead(206, { 'content-range': 'bytes 5-5/100' }).end('x'),
      /asked for bytes 0-0, got 5-5 of 100/,
    ],
    [
      'sends too much',
      (_, response) => void response.writeHead(206, { 'content-range': 'bytes 0-0/100' }).end('too much'),
      /more than the 1 bytes asked for arrived/,
    ],
    [
      'sends too little',
      (_, response) => void response.writeHead(206, { 'content-range': 'bytes 0-0/100' }).end(),
      /0 of 1 bytes arrived/,
    ],
    [
      'cuts the connection',
      (_, response) => {
        response.writeHead(206, { 'content-range': 'bytes 0-0/100', 'content-length': '1' }).flushHeaders();
        setTimeout(() => response.destroy(), 20);
      },
      /0 of 1 bytes arrived, then/,
    ],
  ];

  test.each(cases)('%s', async (_, listener, message) => {
    await using server = await serve(listener);
    const error = await formatError(httpSource(server.url));
    expect(error.message).toMatch(message);
    expect(error.message).toMatch(/^http: /);
    expect(error.message).not.toContain('secret');
  });

  test('an empty file has size 0', async () => {
    await using server = await serve(
      (_, response) => void response.writeHead(416, { 'content-range': 'bytes */0' }).end(),
    );
    const source = await httpSource(server.url);
    expect(source.size).toBe(0);
    expect((await formatError(openSafetensors(source))).offset).toBe(0);
  });

  test('a file that changes while it is read is noticed', async () => {
    let version = 1;
    await using server = await serve((request, response) => {
      const first = Number(/(\d+)-/.exec(request.headers.range!)![1]);
      const headers = { 'content-range': `bytes ${first}-${first}/100`, etag: `"v${version}"` };
      response.writeHead(206, headers).end('x');
    });
    const source = await httpSource(server.url);
    await source.read(7, 1);
    version = 2;
    expect((await formatError(source.read(7, 1))).message).toContain('ETag "v1" is now "v2"');
  });

  test('no server at all', async () => {
    const { url } = await (async () => {
      await using server = await serve();
      return server;
    })();
    expect((await formatError(httpSource(url))).message).toMatch(/the server must answer.*ECONNREFUSED/);
  });

  test('an abort throws its own reason', async () => {
    await using server = await serve(() => {});
    const signal = AbortSignal.timeout(20);
    await expect(httpSource(server.url, { signal })).rejects.toBe(
      await new Promise((done) => {
        signal.addEventListener('abort', () => done(signal.reason));
      }),
    );
  });
});

describe('files', () => {
  test('missing, a folder, and one that shrinks', async () => {
    using folder = temporaryFolder();
    expect((await formatError(fileSource(join(folder.path, 'none')))).message).toMatch(
      /must be there and readable: ENOENT/,
    );
    expect((await formatError(fileSource(folder.path))).message).toMatch(/must be a regular file: it is a folder/);
    const path = join(folder.path, 'shrinks');
    writeFileSync(path, new Uint8Array(100));
    const source = await fileSource(path);
    writeFileSync(path, new Uint8Array(10));
    const error = await formatError(source.read(5, 50));
    expect(error.message).toMatch(/must not shrink while it is read: it had 100 bytes/);
    expect(error.offset).toBe(10);
    await source.close();
    expect((await formatError(source.read(0, 1))).message).toMatch(/^file: must be readable/);
  });
});
