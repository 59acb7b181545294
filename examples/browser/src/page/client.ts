import type { Answer, Requests, WorkerEvent } from '../protocol.ts';
import workerUrl from '../worker/main.ts?worker&url';

type Results = { [K in keyof Requests]: (...args: Parameters<Requests[K]>) => Promise<ReturnType<Requests[K]>> };

/**
 * The worker that trains. It is started from a blob that imports its script: such a worker is bound by the Content-Security-Policy of the
 * page, whatever headers the server sends, so that it cannot talk to other sites either.
 */
export function connect(onEvent: (event: WorkerEvent) => void, onCrash: (message: string) => void): Results {
  const script = new URL(workerUrl, location.href).href;
  const blob = new Blob([`import ${JSON.stringify(script)};`], { type: 'text/javascript' });
  const worker = new Worker(URL.createObjectURL(blob), { type: 'module', name: 'training' });
  const waiting = new Map<number, { resolve: (value: never) => void; reject: (error: Error) => void }>();
  let last = 0;
  worker.onmessage = ({ data }: MessageEvent<Answer | WorkerEvent>) => {
    if ('event' in data) return onEvent(data);
    const call = waiting.get(data.id);
    waiting.delete(data.id);
    if ('error' in data) call?.reject(new Error(data.error));
    else call?.resolve(data.value as never);
  };
  worker.onerror = (event) => {
    const message = event.message || 'the worker did not start';
    for (const { reject } of waiting.values()) reject(new Error(message));
    waiting.clear();
    onCrash(message);
  };
  // messages before the script listens would be lost; a module's are kept until it has run
  worker.postMessage({ page: location.href });
  return new Proxy({} as Results, {
    get:
      (_, name: keyof Requests) =>
      (...args: unknown[]) =>
        new Promise((resolve, reject) => {
          const id = ++last;
          waiting.set(id, { resolve, reject });
          worker.postMessage({ id, name, args });
        }),
  });
}
