export { AtomicFileWriter, folderSinks } from './node/atomic-file-writer.ts';
export { fileSource, folderResolver } from './node/file-source.ts';
