import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';

let folder = '';

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'lowrank-shared-'));
  vi.stubEnv('LOWRANK_SHARED', folder);
  vi.stubEnv('CI', '');
  vi.resetModules();
});

afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true, force: true });
});

/** `<folder>/<name>`, a script with this body. */
function script(name: string, body: string): void {
  mkdirSync(join(folder, name, '..'), { recursive: true });
  writeFileSync(join(folder, name), `#!/bin/sh\n${body}\n`);
  chmodSync(join(folder, name), 0o755);
}

test('finds what is there', async () => {
  const { sharedPath, modelsDir, pythonPath, need } = await import('./shared.ts');
  writeFileSync(join(folder, 'rows.jsonl'), '');
  script('models/get', 'echo "/models $1"');
  script('python/get', 'echo /python');
  expect(sharedPath('rows.jsonl')).toEqual({ path: join(folder, 'rows.jsonl') });
  expect(modelsDir()).toEqual({ path: '/models --hf' });
  expect(pythonPath()).toEqual({ path: '/python' });
  expect(need({ skip: vi.fn() as never }, pythonPath())).toBe('/python');
});

test('gives the reason when it is not there, and the test skips with it', async () => {
  const { sharedPath, modelsDir, need } = await import('./shared.ts');
  script('models/get', 'echo first >&2; echo "no network" >&2; exit 3');
  expect(sharedPath('rows.jsonl').skip).toContain('rows.jsonl is not there');
  expect(modelsDir().skip).toMatch(/models\/get failed: no network$/);
  const skip = vi.fn();
  need({ skip: skip as never }, modelsDir());
  expect(skip).toHaveBeenCalledWith(modelsDir().skip);
});

test('throws in CI when it is not there', async () => {
  vi.stubEnv('CI', 'true');
  const { sharedPath, pythonPath } = await import('./shared.ts');
  expect(() => sharedPath('rows.jsonl')).toThrow(/must be present in CI/);
  expect(() => pythonPath()).toThrow(/must be present in CI/);
});
