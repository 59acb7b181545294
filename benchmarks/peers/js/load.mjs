/** Finds packages from this folder, where they are installed beside this file. */
export const load = (name) => import(name);
export const locate = (name) => import.meta.resolve(name);
