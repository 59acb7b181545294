import { existsSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { hubFiles } from '../src/hub.ts';
import { loadConfig, loadModel, type ModelFiles } from '../src/index.ts';
import { type CachedHubOptions, cachedHubFiles } from '../src/node/hub.ts';
import { fixtures, useDevice } from './helpers.ts';
import { commit, HubServer } from './hub-server.ts';

const at = useDevice(1);
const weights = new Uint8Array(readFileSync(join(fixtures, 'families', 'llama', 'model.safetensors')));
const config = new Uint8Array(readFileSync(join(fixtures, 'families', 'llama', 'config.json')));
let hub: HubServer;
let cacheDir: string;

beforeEach(async () => {
  cacheDir = mkdtempSync(join(tmpdir(), 'lowrank-hub-'));
  hub = await HubServer.start(
    new Map([
      ['config.json', config],
      ['model.safetensors', weights],
    ]),
  );
});
afterEach(async () => {
  await hub.stop().catch(() => {});
  rmSync(cacheDir, { recursive: true, force: true });
});

const cached = (options: CachedHubOptions = {}) =>
  cachedHubFiles('tiny/llama', { endpoint: hub.url, cacheDir, ...options });
const store = (...path: string[]) => join(cacheDir, 'models--tiny--llama', ...path);
const snapshot = (file: string) => store('snapshots', commit, file);

/** All of a file, by one read. */
async function readAll(files: ModelFiles, name: string): Promise<Uint8Array | undefined> {
  const source = await files.open(name);
  if (!source) return undefined;
  try {
    return await source.read(0, source.size);
  } finally {
    await source.close?.();
  }
}

describe('hubFiles', () => {
  test('loads a model by ranges, nothing stored', async () => {
    const files = hubFiles('tiny/llama', { endpoint: `${hub.url}/` });
    using model = await loadModel(at.device, files);
    expect(model.config.hiddenSize).toBe(64);
    expect(hub.requests.filter((r) => r.includes('model.safetensors') && !r.includes('bytes='))).toEqual([]);
    expect(readdirSync(cacheDir)).toEqual([]);
  });

  test('follows redirects; a file that is not there is undefined', async () => {
    hub.redirect = true;
    const files = hubFiles('tiny/llama', { endpoint: hub.url });
    expect(await readAll(files, 'config.json')).toEqual(config);
    expect(hub.requests.some((r) => r.startsWith('GET /cdn/config.json'))).toBe(true);
    expect(await files.open('nothing.json')).toBeUndefined();
  });

  test.each([
    [{ token: undefined }, /refuses access: tiny\/llama\/config\.json at main: status 401\. .*pass a token/],
    [{ token: 'hf_wrong' }, /refuses access: .*The token may not read it/],
  ])('needs a token where the repository does: %j', async ({ token }, message) => {
    hub.token = 'hf_right';
    const options = token === undefined ? {} : { token };
    await expect(hubFiles('tiny/llama', { endpoint: hub.url, ...options }).open('config.json')).rejects.toThrow(
      message,
    );
    expect(await readAll(hubFiles('tiny/llama', { endpoint: hub.url, token: 'hf_right' }), 'config.json')).toEqual(
      config,
    );
  });

  test('says which repository is not there, what is no id, and that the hub fails or cannot be reached', async () => {
    await expect(hubFiles('tiny/none', { endpoint: hub.url }).open('config.json')).rejects.toThrow(
      /not there: tiny\/none\/config\.json at main/,
    );
    expect(() => hubFiles('../etc')).toThrow(/not the id of a model: \.\.\/etc/);
    expect(() => hubFiles('tiny/llama', { token: 'secret' })).toThrow(/an access token begins with hf_/);
    hub.status = 503;
    await expect(hubFiles('tiny/llama', { endpoint: hub.url }).open('config.json')).rejects.toThrow(
      /answers with an error: .*status 503.*Try again later/,
    );
    const { url } = hub;
    await hub.stop();
    await expect(hubFiles('tiny/llama', { endpoint: url }).open('config.json')).rejects.toThrow(
      /cannot be reached: tiny\/llama\/config\.json/,
    );
  });
});

describe('cachedHubFiles', () => {
  test('downloads each file once, into the layout that Python’s client reads', async () => {
    const files = await cached();
    expect(await readAll(files, 'config.json')).toEqual(config);
    expect(await readAll(files, 'config.json')).toEqual(config);
    expect(await readAll(await cached(), 'config.json')).toEqual(config);
    expect(hub.requests.filter((r) => r === `GET /tiny/llama/resolve/${commit}/config.json`)).toHaveLength(1);
    expect(readFileSync(store('refs', 'main'), 'utf8')).toBe(commit);
    expect(readlinkSync(snapshot('config.json'))).toBe(join('..', '..', 'blobs', `etag-${config.length}`));
    expect(readdirSync(store('blobs'))).toEqual([`etag-${config.length}`]);
    using model = await loadModel(at.device, files);
    expect(model.config.layers).toBe(2);
  });

  test('works offline with what is there, the absence of files included', async () => {
    const online = await cached();
    expect((await loadConfig(online)).config.layers).toBe(2);
    await hub.stop();
    for (const options of [{}, { offline: true }, { revision: commit }]) {
      const files = await cached(options);
      expect(await readAll(files, 'config.json')).toEqual(config);
      expect(await files.open('generation_config.json')).toBeUndefined();
    }
    await expect((await cached()).open('model.safetensors')).rejects.toThrow(/cannot be reached/);
    await expect(cachedHubFiles('tiny/other', { endpoint: hub.url, cacheDir, offline: true })).rejects.toThrow(
      /not in the cache: tiny\/other at main.*Go online/,
    );
    await expect(cachedHubFiles('tiny/other', { endpoint: hub.url, cacheDir })).rejects.toThrow(/cannot be reached/);
  });

  test('takes a download up where it broke off', async () => {
    hub.cuts = [100_000, 50_000];
    const steps: number[] = [];
    const files = await cached({ onProgress: ({ bytes }) => steps.push(bytes) });
    expect(await readAll(files, 'model.safetensors')).toEqual(weights);
    const asked = hub.requests.filter((r) => r.includes('model.safetensors'));
    expect(asked.filter((r) => /bytes=[1-9]\d*-/.test(r))).toHaveLength(2);
    expect(steps).toEqual([...steps].sort((a, b) => a - b));
    expect(steps.at(-1)).toBe(weights.length);
  });

  test('gives up after its retries; nothing is taken for the file, and the next try goes on', async () => {
    hub.cuts = [90_000, 10_000];
    await expect((await cached({ retries: 1 })).open('model.safetensors')).rejects.toThrow(
      /cannot be reached: tiny\/llama\/model\.safetensors/,
    );
    expect(existsSync(snapshot('model.safetensors'))).toBe(false);
    const left = readdirSync(store('blobs'));
    expect(left).toEqual([`etag-${weights.length}.incomplete`]);
    expect(await readAll(await cached(), 'model.safetensors')).toEqual(weights);
    expect(hub.requests.at(-1)).toMatch(/bytes=[1-9]\d*-/);
    expect(readdirSync(store('blobs'))).toEqual([`etag-${weights.length}`]);
  });

  test('does not write to a file that another process is writing', async () => {
    const files = await cached();
    await readAll(files, 'config.json');
    const part = store('blobs', `etag-${weights.length}.incomplete`);
    writeFileSync(part, weights.subarray(0, 1000));
    writeFileSync(`${part}.lock`, String(process.ppid));
    expect(await readAll(files, 'model.safetensors')).toEqual(weights);
    expect(readFileSync(part)).toHaveLength(1000);
    // A lock of a process that is gone counts for nothing.
    rmSync(snapshot('model.safetensors'));
    rmSync(store('blobs', `etag-${weights.length}`));
    writeFileSync(`${part}.lock`, '999999999');
    expect(await readAll(await cached(), 'model.safetensors')).toEqual(weights);
    expect(existsSync(part)).toBe(false);
    expect(existsSync(`${part}.lock`)).toBe(false);
  });

  test('refuses a file that has another size than the hub says', async () => {
    const part = store('blobs', `etag-${weights.length}.incomplete`);
    await readAll(await cached(), 'config.json');
    writeFileSync(part, new Uint8Array(weights.length + 5));
    await expect((await cached()).open('model.safetensors')).rejects.toThrow(
      /another size than the hub says: tiny\/llama\/model\.safetensors: 314717 of 314712 bytes/,
    );
    expect(existsSync(part)).toBe(false);
    expect(await readAll(await cached(), 'model.safetensors')).toEqual(weights);
  });

  test('refuses what the hub refuses, and names that leave the folder', async () => {
    hub.token = 'hf_right';
    await expect(cached()).rejects.toThrow(/refuses access: tiny\/llama at main: status 401/);
    expect(await readAll(await cached({ token: 'hf_right' }), 'config.json')).toEqual(config);
    await expect(cached({ token: 'hf_right', revision: 'v9' })).rejects.toThrow(/not there: tiny\/llama at v9/);
    await expect(cached({ revision: '../../x' })).rejects.toThrow(/not a revision/);
    for (const name of ['../x', '/etc/passwd', 'a/../../b', 'C:\\x'])
      await expect((await cached({ token: 'hf_right' })).open(name)).rejects.toThrow(/not the name of a file/);
  });
});
