import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { browserPath, buildSite } from './site.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** The folder with the built page. */
    site: string;
  }
}

/** Builds the page once for all files of the suite. */
export default async function build(project: TestProject): Promise<() => void> {
  const work = mkdtempSync(join(tmpdir(), 'lowrank-site-'));
  const site = join(work, 'site');
  if (!browserPath.skip) await buildSite(site);
  project.provide('site', site);
  return () => rmSync(work, { recursive: true, force: true });
}
