/**
 * Who may import whom. Run through `pnpm check imports`; the diagram in docs/internals/architecture.md is made from the same graph.
 * To allow an arrow, change the table and say why in the commit.
 */
import { builtinModules } from 'node:module';
import { join } from 'node:path';
import { type Manifest, readJson, root } from '../workspace.ts';
import { type Graph, type Import, readGraph } from './graph.ts';

/** Members by room → the rooms their shipped sources may import. `*`: any published package, by its entry points. */
const mayImport: Readonly<Record<string, readonly string[] | '*'>> = {
  kernels: [],
  formats: [],
  tensor: ['kernels'],
  nf4: ['tensor', 'formats'],
  lora: ['tensor', 'formats'],
  models: ['tensor', 'formats'],
  trainer: ['tensor'],
  merge: ['lora', 'formats', 'tensor'],
  'backend-cpu': ['kernels', 'tensor'],
  'backend-webgpu': ['kernels', 'tensor'],
  'backend-cuda': ['kernels', 'tensor'],
  testkit: ['kernels', 'tensor'],
  cli: '*',
  examples: '*',
  benchmarks: '*',
  docs: '*',
};

/** These run in Node only; every other package must load in a browser, save for its `node` entry. */
const nodeOnly = new Set<string>(['cli', 'backend-cuda', 'examples', 'benchmarks', 'docs']);

/** Does this member never load in a browser? */
export const isNodeOnly = (room: string): boolean => nodeOnly.has(room);

/** Files that tooling (tests, configuration) may reach outside its own package. */
const sharedTooling = /^(vitest\.base\.ts|tsup\.base\.ts|scripts\/testing\/.*)$/;

const builtins = new Set(builtinModules);
const isBuiltin = (specifier: string) => specifier.startsWith('node:') || builtins.has(specifier.split('/')[0]!);
const isNodeFile = (path: string) => /^(kernels|packages\/[^/]+\/src)\/node(\/|\.ts$)/.test(path);
/** Is an entry point (`@lowrank/formats/node`) for Node alone? */
export const isNodeEntry = (specifier: string): boolean => /\/node(\/|$)/.test(specifier);
const packageOf = (specifier: string) =>
  specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');

/** Every broken rule, as `file:line: what is wrong. hint`. */
export function lint(top: string = root): string[] {
  const graph = readGraph(top);
  const rooms = new Map(graph.members.map((member) => [member.manifest.name, member.room]));
  const rootTools = new Set(Object.keys(readJson<Manifest>(join(top, 'package.json')).devDependencies ?? {}));
  const problems: string[] = [];
  const report = (at: Pick<Import, 'file' | 'line'>, text: string) => problems.push(`${at.file}:${at.line}: ${text}`);

  for (const file of graph.files.values()) {
    const { member, kind } = file;
    const shipped = kind === 'source';
    const allowed = mayImport[member.room];
    if (!allowed) {
      report({ file: file.path, line: 1 }, `no rule for "${member.room}". Add it to mayImport in import-graph.ts`);
      continue;
    }
    const pureFile = shipped && !nodeOnly.has(member.room) && !isNodeFile(file.path);
    for (const use of file.imports) {
      const { specifier } = use;
      if (specifier.startsWith('.')) {
        const target = use.target ?? '';
        const inside = target.startsWith(`${member.dir}/`);
        if (!inside && !(kind === 'tooling' && sharedTooling.test(target))) {
          report(use, `"${specifier}" leaves ${member.dir}. Import the other package by its name`);
        } else if (pureFile && isNodeFile(target)) {
          report(
            use,
            `"${specifier}" belongs to the node entry; this file must load in a browser. Pass it in from there`,
          );
        } else if (shipped && graph.files.get(target)?.kind === 'tooling') {
          report(use, `shipped code imports "${specifier}", which is test or build tooling`);
        }
        continue;
      }
      if (isBuiltin(specifier)) {
        if (pureFile)
          report(use, `Node built-in "${specifier}" in a file for the browser. Move it to src/node.ts or src/node/`);
        continue;
      }
      const name = packageOf(specifier);
      const room = rooms.get(name);
      if (room && room !== member.room && shipped) {
        if (allowed !== '*' && !allowed.includes(room)) {
          report(use, `${member.room} may not import ${room}. It may import: ${allowed.join(', ') || 'nothing'}`);
        }
        if (pureFile && isNodeEntry(specifier))
          report(use, `"${specifier}" is a node entry; this file must load in a browser`);
      }
      if (room && !use.target) report(use, `${name} has no entry point for "${specifier}"`);
      const { dependencies, peerDependencies, optionalDependencies, devDependencies } = member.manifest;
      const declared = { ...dependencies, ...peerDependencies, ...optionalDependencies };
      const tool = kind === 'tooling' && (devDependencies?.[name] || rootTools.has(name));
      // Types of a tool may be used where nothing of it is left at run time.
      const typesOnly = use.typeOnly && devDependencies?.[name];
      if (name !== member.manifest.name && !declared[name] && !tool && !typesOnly) {
        report(use, `"${name}" is not in ${member.dir}/package.json. Add it to its dependencies`);
      }
    }
    if (pureFile) {
      for (const { name, line } of file.nodeGlobals) {
        report({ file: file.path, line }, `"${name}" exists in Node only. Move it to the node entry or pass it in`);
      }
    }
  }
  problems.push(...manifestArrows(graph, rooms), ...contractsOnly(graph), ...cycles(graph));
  return problems;
}

/** The arrows hold for what manifests declare too, so that an unused dependency cannot open a way. */
function manifestArrows(graph: Graph, rooms: ReadonlyMap<string, string>): string[] {
  const problems: string[] = [];
  for (const { room, dir, manifest } of graph.members) {
    const allowed = mayImport[room];
    if (!allowed || allowed === '*') continue;
    for (const name of Object.keys({ ...manifest.dependencies, ...manifest.peerDependencies })) {
      const other = rooms.get(name);
      if (other && !allowed.includes(other)) problems.push(`${dir}/package.json:1: ${room} may not depend on ${other}`);
    }
  }
  return problems;
}

/** `tensor` sees contracts of kernels, never their reference loops or cases. */
function contractsOnly(graph: Graph): string[] {
  const problems: string[] = [];
  const seen = new Set<string>();
  const walk = (path: string, trail: readonly string[]): void => {
    if (seen.has(path)) return;
    seen.add(path);
    if (/^kernels\/.*(reference|cases)\.ts$/.test(path)) {
      problems.push(`${trail[0]}:1: tensor reaches ${path}; it may see contracts only. Way: ${trail.join(' → ')}`);
    }
    for (const use of graph.files.get(path)?.imports ?? []) {
      if (use.target && !use.typeOnly) walk(use.target, [...trail, use.target]);
    }
  };
  for (const file of graph.files.values()) {
    if (file.member.room === 'tensor' && file.kind === 'source') walk(file.path, [file.path]);
  }
  return problems;
}

/** Load-time cycles between files. Imports of types alone and `import()` make none. */
function cycles(graph: Graph): string[] {
  const problems: string[] = [];
  const state = new Map<string, 'open' | 'done'>();
  const visit = (path: string, trail: readonly string[]): void => {
    if (state.get(path) === 'done') return;
    if (state.get(path) === 'open') {
      const ring = trail.slice(trail.indexOf(path));
      problems.push(
        `${path}:1: import cycle: ${[...ring, path].join(' → ')}. Move what they share to a file of its own`,
      );
      return;
    }
    state.set(path, 'open');
    for (const use of graph.files.get(path)?.imports ?? []) {
      if (use.target && !use.typeOnly && !use.dynamic && graph.files.has(use.target))
        visit(use.target, [...trail, path]);
    }
    state.set(path, 'done');
  };
  for (const path of graph.files.keys()) visit(path, []);
  return problems;
}
