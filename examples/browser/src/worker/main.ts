/** The worker's end of the wire: requests are handled in turn as they come, answers and events go back. */
import type { Answer, Request, WorkerEvent } from '../protocol.ts';
import { setPageUrl } from './model-store.ts';
import { Studio } from './studio.ts';

const port = globalThis as unknown as { postMessage(message: Answer | WorkerEvent): void };
const studio = new Studio((event) => port.postMessage(event));

/** What is done when it is answered: nothing is under way then. */
const quickly = new Set<string>(['chooseModel', 'setData', 'forecast', 'download']);

async function handle({ id, name, args }: Request): Promise<void> {
  try {
    const method = studio[name] as (...given: unknown[]) => unknown;
    const value = await method.apply(studio, [...args]);
    port.postMessage({ id, value });
  } catch (error) {
    port.postMessage({ id, error: error instanceof Error ? error.message : String(error) });
  }
  if (quickly.has(name)) port.postMessage({ event: 'status', text: '' });
}

globalThis.onmessage = ({ data }: MessageEvent<Request | { page: string }>) => {
  if ('page' in data) setPageUrl(data.page);
  else void handle(data);
};
