/** A server that behaves as the Hugging Face hub does towards a page: redirects to another host for large files, ranges, CORS, refusals. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface Hub {
  /** Sends a browser here for the hub's hosts. */
  readonly args: readonly string[];
  /** Paths that were asked for, by host. */
  readonly asked: string[];
  close(): Promise<void>;
}

/** `models` are folders by id; an id that begins with `gated/` asks for a token. Its certificate is made here, and no browser trusts it. */
export async function serveHub(models: Readonly<Record<string, string>>): Promise<Hub> {
  const folder = mkdtempSync(join(tmpdir(), 'lowrank-hub-'));
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
  const request = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=huggingface.co'];
  execFileSync('openssl', [...request, '-keyout', key, '-out', cert], { stdio: 'ignore' });
  const asked: string[] = [];
  const server = createServer({ key: readFileSync(key), cert: readFileSync(cert) }, (request, response) => {
    asked.push(`${request.method} ${request.headers.host}${request.url}`);
    answer(models, request, response);
  });
  rmSync(folder, { recursive: true });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const to = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    args: [`--host-resolver-rules=MAP huggingface.co ${to}, MAP cdn-lfs.hf.co ${to}`, '--ignore-certificate-errors'],
    asked,
    close: () =>
      new Promise((done) => {
        server.close(() => done());
        server.closeAllConnections();
      }),
  };
}

function answer(models: Readonly<Record<string, string>>, request: IncomingMessage, response: ServerResponse): void {
  response.setHeader('Access-Control-Allow-Origin', request.headers.origin ?? '*');
  response.setHeader('Access-Control-Expose-Headers', 'X-Error-Code,X-Repo-Commit,ETag,Content-Range,Accept-Ranges');
  if (request.method === 'OPTIONS') {
    response.setHeader('Access-Control-Allow-Headers', 'authorization,range');
    return void response.writeHead(204).end();
  }
  const refuse = (status: number, code: string) =>
    void response.writeHead(status, { 'X-Error-Code': code }).end(`${code}\n`);
  const [, id, name] =
    /^\/(?:blobs\/)?([\w.-]+\/[\w.-]+)\/(?:resolve\/main\/)?([\w.-]+)$/.exec(request.url ?? '') ?? [];
  const folder = id && models[id];
  if (!folder) return refuse(401, 'RepoNotFound');
  if (id.startsWith('gated/') && request.headers.authorization !== 'Bearer hf_test') return refuse(401, 'GatedRepo');
  const path = join(folder, name!);
  if (!existsSync(path)) return refuse(404, 'EntryNotFound');
  // Large files lie elsewhere.
  if (name!.endsWith('.safetensors') && request.headers.host === 'huggingface.co')
    return void response.writeHead(302, { Location: `https://cdn-lfs.hf.co/blobs/${id}/${name}` }).end();
  const bytes = readFileSync(path);
  const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '');
  const from = range ? Number(range[1]) : 0;
  const to = range ? Math.min(Number(range[2]), bytes.length - 1) : bytes.length - 1;
  response.setHeader('ETag', `"${bytes.length}"`);
  if (range) response.setHeader('Content-Range', `bytes ${from}-${to}/${bytes.length}`);
  response.writeHead(range ? 206 : 200).end(bytes.subarray(from, to + 1));
}
