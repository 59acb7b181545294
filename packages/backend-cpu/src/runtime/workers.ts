import { workerSource } from '../generated/worker.ts';

/** A running thread. */
export interface WorkerHandle {
  stop(): Promise<void>;
}

/** What a thread gets before it starts; see worker.js. */
export interface WorkerData {
  readonly module: WebAssembly.Module;
  readonly memory: WebAssembly.Memory;
  readonly control: number;
  readonly scratch: number;
  readonly names: readonly string[];
  readonly spins: number;
}

/** The part of Node's worker threads that is used here. */
interface NodeWorker {
  once(event: 'error', listener: (error: unknown) => void): unknown;
  once(event: 'message', listener: () => void): unknown;
  off(event: 'error', listener: (error: unknown) => void): unknown;
  unref(): void;
  terminate(): Promise<unknown>;
}
interface NodeWorkers {
  readonly Worker: new (code: string, options: object) => NodeWorker;
}

/** Node's worker threads where there are any. Asked of the host, not imported: a browser's bundle has nothing to trip over. */
function nodeWorkers(): NodeWorkers | undefined {
  const host = (globalThis as { process?: { getBuiltinModule?: (name: string) => unknown } }).process;
  return host?.getBuiltinModule?.('worker_threads') as NodeWorkers | undefined;
}

/** Number of threads that the machine runs at once, as far as it says. */
export function hardwareThreads(): number {
  return globalThis.navigator?.hardwareConcurrency ?? 1;
}

/** Starts a thread; resolves when it waits for work, rejects when it cannot start. */
export function startWorker(data: WorkerData): Promise<WorkerHandle> {
  const node = nodeWorkers();
  return node ? startNodeWorker(node, data) : startBrowserWorker(data);
}

function startNodeWorker({ Worker }: NodeWorkers, workerData: WorkerData): Promise<WorkerHandle> {
  const code = `const { workerData, parentPort } = require('worker_threads');
${workerSource}
runKernels({ ...workerData, ready: () => parentPort.postMessage('ready') });`;
  const worker = new Worker(code, { eval: true, workerData, name: 'lowrank', execArgv: [] });
  return new Promise((resolve, reject) => {
    worker.once('error', reject);
    worker.once('message', () => {
      worker.off('error', reject);
      // From here on the thread keeps no process alive.
      worker.unref();
      resolve({
        stop: async () => {
          await worker.terminate();
        },
      });
    });
  });
}

function startBrowserWorker(data: WorkerData): Promise<WorkerHandle> {
  const code = `${workerSource}
self.onmessage = ({ data }) => runKernels({ ...data, ready: () => self.postMessage('ready') });`;
  const url = URL.createObjectURL(new Blob([code], { type: 'text/javascript' }));
  const worker = new Worker(url, { name: 'lowrank' });
  return new Promise((resolve, reject) => {
    worker.onerror = (event) => reject(new Error(event.message || 'the worker did not start'));
    worker.onmessage = () => {
      URL.revokeObjectURL(url);
      resolve({ stop: async () => worker.terminate() });
    };
    worker.postMessage(data);
  });
}
