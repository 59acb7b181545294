/** The page: the forms before a run, the run itself, and the worker behind both. */
import { connect } from './page/client.ts';
import { at } from './page/dom.ts';
import { RunPage } from './page/run-view.ts';
import { Setup } from './page/setup.ts';
import type { DeviceFacts, RunSettings, WorkerEvent } from './protocol.ts';

function fail(error: unknown): void {
  const alert = at('alert');
  alert.textContent = error instanceof Error ? error.message : String(error);
  alert.hidden = false;
}

function showDevice({ backend, device, notice }: DeviceFacts): void {
  at('device').textContent = `${backend === 'webgpu' ? 'WebGPU' : 'WebAssembly'}: ${device}`;
  at('notice').textContent = notice;
  at('notice').hidden = !notice;
}

let quiet = 0;
/** What the worker is doing; gone when nothing more comes for a while. */
function showStatus(text: string, share?: number): void {
  const words = share === undefined ? `${text} …` : `${text}: ${Math.round(100 * share)} %`;
  at('status').textContent = text && words;
  clearTimeout(quiet);
  quiet = window.setTimeout(() => {
    at('status').textContent = '';
  }, 4000);
}

const worker = connect(onEvent, (message) =>
  fail(`The worker failed: ${message}. Reload the page: the last checkpoint is kept.`),
);
const setup = new Setup(worker, start);
const runPage = new RunPage(worker, () => setup.show(), fail);

function onEvent(event: WorkerEvent): void {
  switch (event.event) {
    case 'status':
      showStatus(event.text, event.share);
      break;
    case 'device':
      showDevice(event.facts);
      break;
    case 'step':
      runPage.steps(event.steps);
      break;
    case 'evaluation':
      runPage.evaluation(event.step, event.loss);
      break;
    case 'saved':
      showStatus(`checkpoint of step ${event.step} saved`);
      break;
    case 'run':
      if (event.run.phase !== 'loading') showStatus('');
      runPage.show(event.run);
      break;
    case 'token':
      runPage.token(event.text);
  }
}

async function start(settings: RunSettings): Promise<void> {
  at('alert').hidden = true;
  try {
    // asks that the browser does not clear the run away; it may say no
    await navigator.storage.persist();
    runPage.hide();
    const run = await worker.start(settings);
    setup.hide();
    runPage.show(run);
  } catch (error) {
    fail(error);
  }
}

async function open(): Promise<void> {
  const { run, goesOn } = await worker.open();
  if (!run) return setup.show();
  runPage.show(run);
  if (goesOn) await worker.goOn();
}

/**
 * Offline once loaded: the service worker keeps what the page consists of. Where the server sends no headers for threads, it does so at the
 * next load; nothing is lost by loading again at once while nothing was begun.
 */
async function keepOffline(): Promise<void> {
  if (!import.meta.env.PROD || !('serviceWorker' in navigator)) return;
  let begun = false;
  for (const type of ['input', 'click', 'keydown'])
    addEventListener(type, () => (begun = true), { once: true, capture: true });
  await navigator.serviceWorker.register('sw.js');
  await navigator.serviceWorker.ready;
  const again = !crossOriginIsolated && !begun && at('run').hidden && !sessionStorage.getItem('again');
  if (!again) return;
  sessionStorage.setItem('again', 'yes');
  location.reload();
}

open().catch(fail);
keepOffline().catch(() => {});
