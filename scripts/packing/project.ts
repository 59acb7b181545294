import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pnpm, root } from '../workspace.ts';
import type { Packed } from './pack.ts';

/** Makes `folder` an empty project that depends on the named packages alone, and installs them. */
export function installAlone(folder: string, names: readonly string[], packed: readonly Packed[]): Promise<void> {
  const dependencies = Object.fromEntries(names.map((name) => [name, '*']));
  const manifest = { name: 'empty-project', private: true, type: 'module', dependencies };
  return install(folder, manifest, packed);
}

/**
 * Installs what a manifest asks for into `folder`: packages of this repository from their tarballs, others from the registry. pnpm's layout
 * keeps a package from seeing anything that it does not declare. Throws with pnpm's output when the installation fails.
 */
export async function install(
  folder: string,
  manifest: { readonly dependencies: Readonly<Record<string, string>> },
  packed: readonly Packed[],
): Promise<void> {
  const byName = new Map(packed.map((each) => [each.member.manifest.name, each]));
  const tarballOf = (name: string) => {
    const found = byName.get(name);
    if (!found) throw new Error(`install: "${name}" is not a package of this repository`);
    return `file:${found.tarball}`;
  };
  const names = Object.keys(manifest.dependencies).filter((name) => name === 'lowrank' || name.startsWith('@lowrank/'));
  const closure = [...new Set(names.flatMap((name) => withDependencies(name, byName)))];
  const overrides = closure.map((name) => `  '${name}': '${tarballOf(name)}'`);
  const allowed =
    /^allowBuilds:\n(?: {2}.*\n)+/m.exec(readFileSync(join(root, 'pnpm-workspace.yaml'), 'utf8'))?.[0] ?? '';
  writeFileSync(join(folder, 'package.json'), JSON.stringify(manifest));
  writeFileSync(join(folder, 'pnpm-workspace.yaml'), `${allowed}overrides:\n${overrides.join('\n')}\n`);
  const { code, output } = await pnpm(['install', '--prefer-offline'], { cwd: folder });
  if (code !== 0) throw new Error(`installing ${names.join(', ')} failed:\n${output}`);
}

/** A package and all packages of this repository that it needs. */
function withDependencies(name: string, byName: ReadonlyMap<string, Packed>): string[] {
  const { dependencies, peerDependencies, optionalDependencies } = byName.get(name)!.member.manifest;
  const needed = Object.keys({ ...dependencies, ...peerDependencies, ...optionalDependencies }).filter((other) =>
    byName.has(other),
  );
  return [name, ...needed.flatMap((other) => withDependencies(other, byName))];
}
