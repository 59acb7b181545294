import { randomBytes } from 'node:crypto';
import { open, readFile, rm } from 'node:fs/promises';

/** The unfinished file that this process alone writes to; disposing it lets others have it. */
export interface PartFile extends AsyncDisposable {
  readonly path: string;
}

/**
 * `<blob>.incomplete`, where an earlier try may have left its beginning; or a fresh name while another living process writes to that one.
 */
export async function claimPart(blob: string): Promise<PartFile> {
  const path = `${blob}.incomplete`;
  const lock = `${path}.lock`;
  if ((await take(lock)) || (await takeFromDead(lock)))
    return { path, [Symbol.asyncDispose]: () => rm(lock, { force: true }) };
  const own = `${blob}.${randomBytes(6).toString('hex')}.incomplete`;
  return { path: own, [Symbol.asyncDispose]: () => rm(own, { force: true }) };
}

async function take(lock: string): Promise<boolean> {
  try {
    const handle = await open(lock, 'wx');
    await handle.writeFile(String(process.pid)).finally(() => handle.close());
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

async function takeFromDead(lock: string): Promise<boolean> {
  const pid = Number(await readFile(lock, 'utf8').catch(() => ''));
  if (Number.isInteger(pid) && pid > 0 && isAlive(pid)) return false;
  await rm(lock, { force: true });
  return take(lock);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
