import { type FileHandle, open, readFile, rename, writeFile } from 'node:fs/promises';
import type { Metric, MetricsSink } from '../metrics.ts';

/** Metrics as JSON lines, appended to a file as they come. Resuming drops the lines of steps that will be run again. */
export class JsonlMetrics implements MetricsSink {
  readonly path: string;
  #file: FileHandle | undefined;

  constructor(path: string) {
    this.path = path;
  }

  async write(metric: Metric): Promise<void> {
    this.#file ??= await open(this.path, 'a');
    await this.#file.appendFile(`${JSON.stringify(metric)}\n`);
  }

  async resume(step: number): Promise<void> {
    await this.close();
    const text = await readFile(this.path, 'utf8').catch(() => '');
    const kept = text.split('\n').filter((line) => {
      try {
        return (JSON.parse(line) as Metric).step <= step;
      } catch {
        return false; // empty, or cut off when the process ended
      }
    });
    const work = `${this.path}.new`;
    await writeFile(work, kept.map((line) => `${line}\n`).join(''));
    await rename(work, this.path);
  }

  async close(): Promise<void> {
    await this.#file?.close();
    this.#file = undefined;
  }
}
