import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { type Exports, type Member, published, root } from '../workspace.ts';

/** Most lines of a package's README. */
const readmeCap = 60;

/** Rules that every published package follows, so that one reads like the other. */
export function lint(packages: readonly Member[] = published()): string[] {
  const version = packages[0]?.manifest.version;
  return packages.flatMap((member) =>
    problemsOf(member, version).map((text) => `${member.dir}/package.json:1: ${text}`),
  );
}

function problemsOf({ dir, manifest }: Member, version: string | undefined): string[] {
  const problems: string[] = [];
  const expect = (holds: boolean, text: string) => {
    if (!holds) problems.push(text);
  };
  expect(manifest.version === version, `version ${manifest.version}; all packages share one version (${version})`);
  expect(manifest.type === 'module', '"type" must be "module"');
  expect(manifest.license === 'Apache-2.0', '"license" must be "Apache-2.0"');
  expect(manifest.sideEffects !== undefined, '"sideEffects" must be given');
  expect(manifest.engines?.node === '>=22.18', '"engines.node" must be ">=22.18"');
  expect(manifest.files?.includes('dist') ?? false, '"files" must name "dist"');
  expect(
    isDeepStrictEqual(manifest.publishConfig?.exports, withoutSource(manifest.exports ?? {})),
    '"publishConfig.exports" must be "exports" without the "source" condition',
  );
  for (const [entry, target] of Object.entries(manifest.exports ?? {})) {
    if (typeof target === 'string') continue;
    expect(Object.keys(target)[0] === 'source', `exports["${entry}"]: "source" must stand first`);
    expect(existsSync(join(root, dir, target.source ?? '')), `exports["${entry}"]: ${target.source} does not exist`);
  }
  const readme = join(root, dir, 'README.md');
  if (!existsSync(readme)) problems.push('README.md is missing');
  else {
    const lines = readFileSync(readme, 'utf8').trimEnd().split('\n').length;
    expect(lines <= readmeCap, `README.md has ${lines} lines, ${readmeCap} is the cap`);
  }
  return problems;
}

/** The published form of an exports map. */
export function withoutSource(exports: Exports): Exports {
  return Object.fromEntries(
    Object.entries(exports).map(([entry, target]) => {
      if (typeof target === 'string') return [entry, target];
      const { source: _, ...rest } = target;
      return [entry, rest];
    }),
  );
}
