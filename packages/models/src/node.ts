/** Models on disk, for Node. */
export { folderFiles } from './node/folder-files.ts';
