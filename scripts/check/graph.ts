import { globSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import ts from 'typescript';
import { type Member, members, root } from '../workspace.ts';

/** One import (or re-export) of a file. Paths are relative to the repository, with `/`. */
export interface Import {
  readonly file: string;
  readonly line: number;
  readonly specifier: string;
  /** Gone after type stripping. */
  readonly typeOnly: boolean;
  /** `import(...)`: does not make a load-time cycle. */
  readonly dynamic: boolean;
  /** The file it leads to; undefined for other people's packages and Node built-ins. */
  readonly target?: string;
}

export interface SourceFile {
  readonly path: string;
  readonly member: Member;
  /** `source` is shipped; `tooling` (tests, measurements, build and generator scripts, configuration) is not. */
  readonly kind: 'source' | 'tooling';
  readonly imports: readonly Import[];
  /** Globals of Node that the file uses without declaring them: `Buffer`, `process` … with their lines. */
  readonly nodeGlobals: readonly { readonly name: string; readonly line: number }[];
}

export interface Graph {
  readonly members: readonly Member[];
  readonly files: ReadonlyMap<string, SourceFile>;
}

/** Reads every hand-written TypeScript file of the workspace's members. */
export function readGraph(top: string = root): Graph {
  const all = members(top);
  const files = new Map<string, SourceFile>();
  for (const member of all) {
    for (const name of globSync('**/*.{ts,tsx,mts}', { cwd: join(top, member.dir), exclude: isForeign })) {
      const inside = name.replaceAll('\\', '/');
      if (/\.(as|d)\.ts$/.test(inside)) continue;
      const path = `${member.dir}/${inside}`;
      const kind = /^(tests|scripts|bench)\/|(^|\/)[\w-]+\.config\.ts$/.test(inside) ? 'tooling' : 'source';
      files.set(path, { path, member, kind, ...readFile(top, path, all) });
    }
  }
  return { members: all, files };
}

function isForeign(path: string): boolean {
  return /(^|[\\/])(node_modules|dist|build|fixtures|api|\.[^\\/]+)$/.test(path);
}

/** The source file behind a package's entry: `@lowrank/tensor/node` → `packages/tensor/src/node.ts`. */
function entryFile(specifier: string, all: readonly Member[]): string | undefined {
  const member = all.find(({ manifest: { name } }) => specifier === name || specifier.startsWith(`${name}/`));
  if (!member) return undefined;
  const entry = member.manifest.exports?.[`.${specifier.slice(member.manifest.name.length)}`];
  const source = typeof entry === 'string' ? entry : entry?.source;
  return source && `${member.dir}/${normalize(source)}`;
}

function readFile(top: string, path: string, all: readonly Member[]): Pick<SourceFile, 'imports' | 'nodeGlobals'> {
  const tree = ts.createSourceFile(path, readFileSync(join(top, path), 'utf8'), ts.ScriptTarget.ESNext, true);
  const imports: Import[] = [];
  const globals = new Map<string, number>();
  const declared = new Set<string>();
  const lineOf = (node: ts.Node) => tree.getLineAndCharacterOfPosition(node.getStart()).line + 1;
  const add = (at: ts.Node, literal: ts.Node | undefined, typeOnly: boolean, dynamic: boolean) => {
    if (!literal || !ts.isStringLiteralLike(literal)) return;
    const specifier = literal.text;
    const target = specifier.startsWith('.')
      ? normalize(join(dirname(path), specifier)).replaceAll('\\', '/')
      : entryFile(specifier, all);
    imports.push({ file: path, line: lineOf(at), specifier, typeOnly, dynamic, ...(target && { target }) });
  };
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node)) {
      add(node, node.moduleSpecifier, node.importClause?.phaseModifier === ts.SyntaxKind.TypeKeyword, false);
    } else if (ts.isExportDeclaration(node)) add(node, node.moduleSpecifier, node.isTypeOnly, false);
    else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) {
      add(node, node.argument.literal, true, false);
    } else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
      add(node, node.arguments[0], false, true);
    } else if (ts.isIdentifier(node) && nodeGlobals.has(node.text)) {
      if (isDeclaration(node)) declared.add(node.text);
      else if (isFreeUse(node) && !globals.has(node.text)) globals.set(node.text, lineOf(node));
    }
    ts.forEachChild(node, visit);
  };
  visit(tree);
  const free = [...globals].filter(([name]) => !declared.has(name)).map(([name, line]) => ({ name, line }));
  return { imports, nodeGlobals: free };
}

const nodeGlobals = new Set(['Buffer', 'process', 'require', '__dirname', '__filename', 'setImmediate', 'global']);

function isDeclaration(node: ts.Identifier): boolean {
  const { parent } = node;
  return (
    (ts.isVariableDeclaration(parent) ||
      ts.isParameter(parent) ||
      ts.isFunctionDeclaration(parent) ||
      ts.isBindingElement(parent) ||
      ts.isImportSpecifier(parent)) &&
    parent.name === node
  );
}

/** An identifier that stands for a value of its own: not `x.process`, not a key, not a type's member. */
function isFreeUse(node: ts.Identifier): boolean {
  const { parent } = node;
  if (ts.isPropertyAccessExpression(parent)) return parent.expression === node;
  if (ts.isPropertyAssignment(parent)) return parent.initializer === node;
  return (
    ts.isShorthandPropertyAssignment(parent) ||
    (ts.isExpression(parent) && !ts.isPropertyAccessExpression(parent)) ||
    ts.isVariableDeclaration(parent) ||
    ts.isExpressionStatement(parent) ||
    ts.isReturnStatement(parent) ||
    ts.isIfStatement(parent)
  );
}
