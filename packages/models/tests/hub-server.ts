import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export const commit = '0123456789abcdef0123456789abcdef01234567';

/** A server that answers as the hub does, for one repository, with the troubles that a test asks for. */
export class HubServer {
  readonly #server: Server;
  readonly #files: ReadonlyMap<string, Uint8Array>;
  /** Without a slash at the end. */
  url = '';
  /** What was asked: `GET /path`, with the range where there was one. */
  readonly requests: string[] = [];
  /** Token that is asked for, where one is. */
  token: string | undefined;
  /** Send this file's content from another path, by a redirect. */
  redirect = false;
  /** Break off the next answers after this many bytes of the body. */
  cuts: number[] = [];
  /** Status for everything. */
  status: number | undefined;

  private constructor(files: ReadonlyMap<string, Uint8Array>) {
    this.#files = files;
    this.#server = createServer((request, response) => this.#answer(request, response));
  }

  static async start(files: ReadonlyMap<string, Uint8Array>): Promise<HubServer> {
    const hub = new HubServer(files);
    await new Promise<void>((done) => hub.#server.listen(0, '127.0.0.1', done));
    hub.url = `http://127.0.0.1:${(hub.#server.address() as AddressInfo).port}`;
    return hub;
  }

  /** Stops answering: connections are refused from now on. */
  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<void>((done) => this.#server.close(() => done()));
  }

  #answer(request: IncomingMessage, response: ServerResponse): unknown {
    const path = decodeURIComponent(request.url!.split('?')[0]!);
    this.requests.push(`${request.method} ${path}${request.headers.range ? ` ${request.headers.range}` : ''}`);
    if (this.status) return this.#fail(response, this.status, 'ServerError');
    if (this.token && request.headers.authorization !== `Bearer ${this.token}`)
      return this.#fail(response, 401, 'GatedRepo');
    const info = /^\/api\/models\/tiny\/llama\/revision\/(.+)$/.exec(path);
    if (info) {
      if (!['main', commit].includes(info[1]!)) return this.#fail(response, 404, 'RevisionNotFound');
      response.setHeader('content-type', 'application/json');
      response.end(
        JSON.stringify({
          _id: 'x',
          id: 'tiny/llama',
          sha: commit,
          private: false,
          downloads: 0,
          likes: 0,
          lastModified: '2026-01-01',
        }),
      );
      return;
    }
    const file = /^\/(?:tiny\/llama\/resolve\/([^/]+)|cdn)\/(.+)$/.exec(path);
    if (!file) return this.#fail(response, 404, 'RepoNotFound');
    const data = this.#files.get(file[2]!);
    if (!data) return this.#fail(response, 404, 'EntryNotFound');
    if (this.redirect && file[1]) {
      response.writeHead(302, { location: `/cdn/${file[2]}` });
      response.end();
      return undefined;
    }
    return this.#send(request, response, data);
  }

  #send(request: IncomingMessage, response: ServerResponse, data: Uint8Array): void {
    const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
    const start = range ? Number(range[1]) : 0;
    const end = range?.[2] ? Math.min(Number(range[2]), data.length - 1) : data.length - 1;
    const body = data.subarray(start, end + 1);
    response.statusCode = range ? 206 : 200;
    response.setHeader('etag', `"etag-${data.length}"`);
    response.setHeader('x-repo-commit', commit);
    response.setHeader('content-length', body.length);
    if (range) response.setHeader('content-range', `bytes ${start}-${end}/${data.length}`);
    // The request for one byte finds the size; troubles begin with the body.
    const cut = body.length > 1 ? this.cuts.shift() : undefined;
    if (cut === undefined) response.end(body);
    else response.write(body.subarray(0, cut), () => setTimeout(() => response.destroy(), 20));
  }

  #fail(response: ServerResponse, status: number, code: string): void {
    response.writeHead(status, { 'x-error-code': code, 'content-type': 'application/json' });
    response.end(JSON.stringify({ error: code }));
  }
}
