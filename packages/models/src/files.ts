import { type ByteSource, blobSource, bytesSource } from '@lowrank/formats';
import { check, LowrankError } from '@lowrank/tensor';

/** The files of a model, wherever they are: a folder on disk, files chosen in a browser, a repository of the hub, one GGUF file. */
export interface ModelFiles {
  /** What error messages call it: a path, an id. */
  readonly name: string;
  /** The GGUF file to open, where the model is one; undefined for a Hugging Face folder. */
  readonly gguf?: string | undefined;
  /** Opens a file by its plain name (`config.json`); undefined where there is none. The caller closes what it opened. */
  open(fileName: string): Promise<ByteSource | undefined>;
}

/** Largest JSON, template or text file that is read whole: 256 MiB. */
const maxTextBytes = 256 << 20;

/** A GGUF file as a model. The source stays the caller's: it is not closed here. */
export function ggufFiles(source: ByteSource | Blob, name?: string): ModelFiles {
  const bytes = source instanceof Blob ? blobSource(source, name) : source;
  const open: ByteSource = {
    name: name ?? bytes.name,
    size: bytes.size,
    read: (offset, length) => bytes.read(offset, length),
  };
  const gguf = open.name.split(/[\\/]/).at(-1)!;
  return { name: open.name, gguf, open: async (fileName) => (fileName === gguf ? open : undefined) };
}

/**
 * Files chosen in a browser (`input.files` of a folder picker, or dropped ones), or any map of names to blobs or bytes. Where no
 * safetensors file is among them and one `.gguf` is, the model is that file.
 */
export function blobFiles(
  files: Iterable<File> | Iterable<readonly [name: string, data: Blob | Uint8Array]>,
  name = 'the chosen files',
): ModelFiles {
  const byName = new Map<string, { path: string; data: Blob | Uint8Array }>();
  for (const entry of files) {
    const [path, data] = Array.isArray(entry)
      ? (entry as [string, Blob | Uint8Array])
      : [pathOf(entry as File), entry as File];
    const plain = path.split('/').at(-1)!;
    const known = byName.get(plain);
    // A file of a folder inside the folder does not hide the one beside config.json.
    if (!known || path.split('/').length < known.path.split('/').length) byName.set(plain, { path, data });
  }
  const gguf = chooseGguf([...byName.keys()], name);
  return {
    name,
    gguf,
    open: async (fileName) => {
      const data = byName.get(fileName)?.data;
      if (data === undefined) return undefined;
      return data instanceof Uint8Array ? bytesSource(data, fileName) : blobSource(data, fileName);
    },
  };
}

function pathOf(file: File): string {
  return file.webkitRelativePath || file.name;
}

/** Which file of a folder is the model, given their names: undefined for a Hugging Face folder, else its only `.gguf` file. */
export function chooseGguf(names: readonly string[], folder: string): string | undefined {
  const ggufs = names.filter((n) => n.toLowerCase().endsWith('.gguf'));
  const folderLike = names.some((n) => n.endsWith('.safetensors') || n.endsWith('.safetensors.index.json'));
  if (folderLike || ggufs.length === 0) return undefined;
  check(
    ggufs.length === 1,
    'model',
    'several GGUF files, and no safetensors',
    () => `${folder}: ${ggufs.join(', ')}`,
    'Name the one to open',
  );
  return ggufs[0];
}

/** A whole text file, or undefined where there is none. */
export async function readText(files: ModelFiles, fileName: string): Promise<string | undefined> {
  const source = await files.open(fileName);
  if (source === undefined) return undefined;
  try {
    check(
      source.size <= maxTextBytes,
      'model',
      'the file is too large for a text file',
      () => `${source.name}: ${source.size} bytes`,
    );
    return new TextDecoder('utf-8', { ignoreBOM: false }).decode(await source.read(0, source.size));
  } finally {
    await source.close?.();
  }
}

/** A parsed JSON object, or undefined where the file is not there. */
export async function readJson(files: ModelFiles, fileName: string): Promise<Record<string, unknown> | undefined> {
  const text = await readText(files, fileName);
  if (text === undefined) return undefined;
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new LowrankError(
      'model',
      'the file is not JSON',
      `${fileName} of ${files.name}: ${(cause as Error).message}`,
      'Copy or download it again',
      { cause },
    );
  }
  check(isObject(json), 'model', 'the file must hold a JSON object', `${fileName} of ${files.name}`);
  return json;
}

export function isObject(x: unknown): x is Record<string, unknown> {
  return x !== null && typeof x === 'object' && !Array.isArray(x);
}
