import { execFileSync, spawnSync } from 'node:child_process';
import { lstatSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, test } from 'vitest';
import { AtomicFileWriter, folderSinks } from '../src/node.ts';
import { formatError, temporaryFolder } from './support.ts';

const entry = pathToFileURL(resolve(import.meta.dirname, '../src/node.ts')).href;

/** Writes 4 MiB to `path` in pieces of `piece` bytes and prints the error's code and message. */
function program(path: string, piece: number): string {
  return `
    import { AtomicFileWriter } from '${entry}';
    const writer = await AtomicFileWriter.create(${JSON.stringify(path)});
    try {
      for (let i = 0; i < 4 << 20; i += ${piece}) await writer.write(new Uint8Array(${piece}).fill(7));
      await writer.commit();
      console.log('committed');
    } catch (error) {
      console.log(error.name, error.cause?.code, error.message);
    }`;
}

describe('AtomicFileWriter', () => {
  test('the file appears at commit, with all bytes, and replaces the old one', async () => {
    using folder = temporaryFolder();
    const path = join(folder.path, 'out.bin');
    writeFileSync(path, 'old');
    const writer = await AtomicFileWriter.create(path);
    const want = Buffer.alloc(5_000_000);
    for (let at = 0, n = 1; at < want.length; n = (n * 7919) % 2_000_003) {
      const piece = want.subarray(at, at + n).fill(n & 255);
      await writer.write(piece);
      at += piece.length;
    }
    expect(writer.bytesWritten).toBe(want.length);
    expect(readFileSync(path, 'utf8')).toBe('old');
    await writer.commit();
    expect(readFileSync(path).equals(want)).toBe(true);
    expect(readdirSync(folder.path)).toEqual(['out.bin']);
    await writer.abort();
    expect(readFileSync(path).length).toBe(want.length);
    expect((await formatError(writer.write(want))).message).toContain('write needs an open writer');
    expect((await formatError(writer.commit())).message).toContain('commit needs an open writer');
  });

  test('what is not committed leaves no trace', async () => {
    using folder = temporaryFolder();
    const path = join(folder.path, 'out.bin');
    writeFileSync(path, 'old');
    {
      await using writer = await AtomicFileWriter.create(path);
      await writer.write(new Uint8Array(3 << 20));
      expect(readdirSync(folder.path)).toHaveLength(2);
    }
    expect(readdirSync(folder.path)).toEqual(['out.bin']);
    expect(readFileSync(path, 'utf8')).toBe('old');
  });

  test('a symbolic link stays one', async () => {
    using folder = temporaryFolder();
    const [target, link] = [join(folder.path, 'target'), join(folder.path, 'link')];
    writeFileSync(target, 'old');
    symlinkSync(target, link);
    const writer = await AtomicFileWriter.create(link);
    await writer.write(Buffer.from('new'));
    await writer.commit();
    expect(lstatSync(link).isSymbolicLink()).toBe(true);
    expect(readFileSync(target, 'utf8')).toBe('new');
  });

  test('a folder that is not there, or is a file', async () => {
    using folder = temporaryFolder();
    const error = await formatError(AtomicFileWriter.create(join(folder.path, 'no', 'out.bin')));
    expect(error.message).toMatch(/^file: the folder must be writable: ENOENT/);
    writeFileSync(join(folder.path, 'plain'), '');
    const other = await formatError(folderSinks(join(folder.path, 'plain', 'inner'))('out.bin'));
    expect(other.message).toMatch(/^folder: must be there or be makeable: ENOTDIR/);
    await (await folderSinks(join(folder.path, 'made', 'deep'))('out.bin')).commit();
    expect(readdirSync(join(folder.path, 'made', 'deep'))).toEqual(['out.bin']);
  });

  test('renaming over a folder fails and cleans up', async () => {
    using folder = temporaryFolder();
    const writer = await AtomicFileWriter.create(folder.path);
    await writer.write(Buffer.from('x'));
    expect((await formatError(writer.commit())).message).toMatch(/must be writable: E(ISDIR|NOTEMPTY|EXIST|PERM)/);
    expect(
      readdirSync(join(folder.path, '..')).filter(
        (name) => name.endsWith('.tmp') && folder.path.includes(name.split('.')[0]!),
      ),
    ).toEqual([]);
  });

  // A limit on file size fails writes as a full disk does, for any user.
  test.skipIf(process.platform === 'win32').each([1000, 3 << 20])(
    'out of room, in pieces of %i bytes: the old file is whole and the rest is gone',
    (piece) => {
      using folder = temporaryFolder();
      const path = join(folder.path, 'out.bin');
      writeFileSync(path, 'old');
      const output = execFileSync(
        'bash',
        ['-c', 'ulimit -f 2048; exec "$0" --input-type=module -e "$1"', process.execPath, program(path, piece)],
        {
          encoding: 'utf8',
        },
      );
      expect(output).toMatch(
        /^FormatError EFBIG file: the disk must have room: .*What was at this path before is unchanged\./,
      );
      expect(readdirSync(folder.path)).toEqual(['out.bin']);
      expect(readFileSync(path, 'utf8')).toBe('old');
    },
  );

  test('a disk that is full', (context) => {
    using folder = temporaryFolder();
    const path = join(folder.path, 'out.bin');
    const script = `mount -t tmpfs -o size=1m tmpfs '${folder.path}' && printf old > '${path}' && "$0" --input-type=module -e "$1" && ls '${folder.path}' && cat '${path}'`;
    const inNamespace = ['-rm', 'bash', '-c', script, process.execPath, program(path, 100_000)];
    if (spawnSync('unshare', ['-rm', 'true']).status !== 0) context.skip('no mount namespace for this user');
    const output = execFileSync('unshare', inNamespace, { encoding: 'utf8' });
    expect(output).toMatch(/^FormatError ENOSPC file: the disk must have room: .*\nout\.bin\nold$/);
  });
});
