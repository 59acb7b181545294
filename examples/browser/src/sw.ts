/**
 * The service worker: keeps the page's own files, so that it opens offline, and answers with the headers that threads need where the server
 * sends none. Only files of this build and the bundled model are kept; nothing else is fetched here.
 */
interface Waitable extends Event {
  waitUntil(work: Promise<unknown>): void;
}
interface Fetching extends Waitable {
  readonly request: Request;
  respondWith(answer: Promise<Response>): void;
}
interface Scope {
  readonly registration: { readonly scope: string };
  readonly clients: { claim(): Promise<void> };
  skipWaiting(): Promise<void>;
  addEventListener(name: 'install' | 'activate', listener: (event: Waitable) => void): void;
  addEventListener(name: 'fetch', listener: (event: Fetching) => void): void;
}

/** Written by the build: the files of the page, and a name that changes with them. */
declare const __FILES__: readonly string[];
declare const __VERSION__: string;

const scope = globalThis as unknown as Scope;
const cacheName = `lowrank-${__VERSION__}`;

scope.addEventListener('install', (event) => {
  event.waitUntil(
    caches
      .open(cacheName)
      .then((cache) => cache.addAll(__FILES__))
      .then(() => scope.skipWaiting()),
  );
});

scope.addEventListener('activate', (event) => {
  const clean = async () => {
    for (const key of await caches.keys())
      if (key.startsWith('lowrank-') && key !== cacheName) await caches.delete(key);
    await scope.clients.claim();
  };
  event.waitUntil(clean());
});

scope.addEventListener('fetch', (event) => {
  const { request } = event;
  if (request.method !== 'GET' || !request.url.startsWith(scope.registration.scope)) return;
  event.respondWith(answer(request));
});

async function answer(request: Request): Promise<Response> {
  const cache = await caches.open(cacheName);
  const url = new URL(request.url);
  if (url.pathname.endsWith('/')) url.pathname += 'index.html';
  let response = await cache.match(url.href, { ignoreSearch: true });
  if (!response) {
    response = await fetch(request);
    if (response.ok && url.pathname.includes('/bundled/')) await cache.put(request, response.clone());
  }
  const headers = new Headers(response.headers);
  headers.set('Cross-Origin-Opener-Policy', 'same-origin');
  headers.set('Cross-Origin-Embedder-Policy', 'require-corp');
  headers.set('Cross-Origin-Resource-Policy', 'same-origin');
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}

export type {};
