import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { execute, type Member, pnpm, published, root } from '../workspace.ts';

/** A package as it would be uploaded. */
export interface Packed {
  readonly member: Member;
  /** Absolute path of the `.tgz`. */
  readonly tarball: string;
}

/** Builds what changed and packs every published package into `folder` (absolute). Throws with the tool's output. */
export async function packAll(folder: string): Promise<Packed[]> {
  const built = await pnpm(['run', 'build', '--output-logs=errors-only']);
  if (built.code !== 0) throw new Error(`build failed:\n${built.output}`);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const members = published();
  const filters = members.flatMap(({ manifest }) => ['--filter', manifest.name]);
  const packed = await pnpm([...filters, '--recursive', 'pack', '--pack-destination', folder]);
  if (packed.code !== 0) throw new Error(`pack failed:\n${packed.output}`);
  return members.map((member) => ({ member, tarball: join(folder, tarballName(member)) }));
}

function tarballName({ manifest }: Member): string {
  return `${manifest.name.replace('@', '').replace('/', '-')}-${manifest.version}.tgz`;
}

/** publint and are-the-types-wrong on the packed packages; what they find, by package. */
export async function lint(): Promise<string[]> {
  const problems: string[] = [];
  for (const { member, tarball } of await packAll(join(root, 'build/packed'))) {
    const [entries, types] = await Promise.all([
      execute('publint', ['run', tarball, '--strict']),
      execute('attw', [tarball, '--profile', 'esm-only', '--no-emoji']),
    ]);
    if (entries.code !== 0) problems.push(`${member.dir}/package.json:1: publint:\n${entries.output}`);
    if (types.code !== 0) problems.push(`${member.dir}/package.json:1: are-the-types-wrong:\n${types.output}`);
  }
  return problems;
}
