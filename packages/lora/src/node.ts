/** PEFT adapter folders on disk. */
import { mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AtomicFileWriter, fileSource } from '@lowrank/formats/node';
import { LowrankError } from '@lowrank/tensor';
import type { Adapter, LoraModel } from './model.ts';
import { loadAdapter, saveAdapter } from './peft-files.ts';

/** Writes a PEFT folder, each file whole or not at all. A folder that holds something is refused unless `overwrite`. */
export async function saveAdapterFolder(
  lora: LoraModel,
  name: string,
  folder: string,
  options: { overwrite?: boolean } = {},
): Promise<void> {
  const there = await readdir(folder).catch(() => []);
  if (there.length && !options.overwrite)
    throw new LowrankError('save', 'the folder is there and not empty', folder, 'Choose another, or overwrite it');
  await mkdir(folder, { recursive: true });
  for (const [file, bytes] of await saveAdapter(lora, name)) {
    await using out = await AtomicFileWriter.create(join(folder, file));
    await out.write(bytes);
    await out.commit();
  }
}

/** Adds the adapter of a PEFT folder. */
export function loadAdapterFolder(lora: LoraModel, folder: string, options: { name?: string } = {}): Promise<Adapter> {
  return loadAdapter(
    lora,
    {
      text: async (file) => {
        try {
          return await readFile(join(folder, file), 'utf8');
        } catch (cause) {
          throw new LowrankError(
            'adapter',
            'a file cannot be read',
            join(folder, file),
            'An adapter folder holds adapter_config.json and adapter_model.safetensors',
            { cause },
          );
        }
      },
      open: async (file) => {
        const names = await readdir(folder).catch((): string[] => []);
        if (!names.includes(file) && names.includes('adapter_model.bin'))
          throw new LowrankError(
            'adapter',
            'the weights are in the format of old PEFT versions, which can hold programs',
            join(folder, 'adapter_model.bin'),
            `Load it with a current PEFT and save it again: that writes ${file}`,
          );
        return fileSource(join(folder, file));
      },
    },
    options,
  );
}
