import { LowrankError, nearest } from '@lowrank/tensor';
import type { LoraConfig } from './config.ts';

/** One adaptable module: where it is, and what it is. */
export interface Candidate {
  readonly path: string;
  readonly kind: 'linear' | 'embedding' | 'head';
}

/** What Python writes otherwise than JavaScript: flags of the whole pattern, names of groups, its own anchors. */
function fromPython(pattern: string): { source: string; flags: string } {
  const [whole, letters] = /^\(\?([imsx]+)\)/.exec(pattern) ?? ['', ''];
  const source = pattern
    .slice(whole.length)
    .replace(/\(\?P<(\w+)>/g, '(?<$1>')
    .replace(/\(\?P=(\w+)\)/g, '\\k<$1>')
    .replace(/\\A/g, '^')
    .replace(/\\Z/g, '$');
  return { source: `^(?:${source})$`, flags: [...letters!].filter((c) => 'ims'.includes(c)).join('') };
}

/** Python's re.fullmatch for the patterns that PEFT configurations hold. */
function fullMatch(pattern: string, text: string, option: string): boolean {
  const { source, flags } = fromPython(pattern);
  let regex: RegExp;
  try {
    regex = new RegExp(source, `u${flags}`);
  } catch {
    try {
      regex = new RegExp(source, flags);
    } catch (error) {
      throw new LowrankError('lora', `${option} is not a regular expression`, JSON.stringify(pattern), '', {
        cause: error,
      });
    }
  }
  return regex.test(text);
}

function endsWithName(path: string, name: string): boolean {
  return path === name || path.endsWith(`.${name}`);
}

/** PEFT's rule for targets and exclusions: a string is a regular expression over the whole path, a list holds names or suffixes of paths. */
function matches(path: string, rule: readonly string[] | string, option: string): boolean {
  return typeof rule === 'string' ? fullMatch(rule, path, option) : rule.some((name) => endsWithName(path, name));
}

/** The number of the layer that a path lies in: the first number after a dotted part, or after the first of `patterns` that is there. */
export function layerOf(path: string, patterns?: string | readonly string[]): number | undefined {
  for (const pattern of patterns?.length ? [patterns].flat() : ['[^.]+']) {
    const found = new RegExp(`^(?:.*?\\.)?${pattern}\\.(\\d+)\\.`).exec(path);
    if (found) return Number(found[1]);
  }
  return undefined;
}

/** Distinct last parts of paths: what users name targets by. */
function shortNames(candidates: readonly Candidate[]): string[] {
  return [...new Set(candidates.map((c) => c.path.split('.').at(-1)!))];
}

function noMatch(option: string, name: string, candidates: readonly Candidate[], what = ''): never {
  throw new LowrankError(
    'lora',
    `${option} matches ${what ? `no ${what}` : 'nothing'}`,
    JSON.stringify(name),
    `Nearest${what ? ` ${what}s` : ''}: ${nearest(name, shortNames(candidates)).join(', ')}`,
  );
}

/**
 * Paths that a configuration adapts, in model order. Every name must match something; PEFT lets some of a list miss in silence, and so does
 * `lenient`, for configurations that it wrote: there the weights beside them tell what was meant.
 */
export function matchTargets(candidates: readonly Candidate[], config: LoraConfig, lenient = false): string[] {
  const { targetModules, excludeModules, modulesToSave = [], layersToTransform, layersPattern } = config;
  const allLinear = typeof targetModules === 'string' && targetModules.toLowerCase() === 'all-linear';
  const excluded = (path: string) =>
    (excludeModules !== undefined && matches(path, excludeModules, 'excludeModules')) ||
    modulesToSave.some((name) => `.${path}.`.includes(`.${name}.`));
  const hit = ({ path, kind }: Candidate) =>
    allLinear ? kind === 'linear' : matches(path, targetModules, 'targetModules');
  if (Array.isArray(targetModules) && !lenient)
    for (const name of targetModules)
      if (!candidates.some((c) => endsWithName(c.path, name))) noMatch('targetModules', name, candidates);
  if (Array.isArray(excludeModules) && !lenient)
    for (const name of excludeModules)
      if (!candidates.some((c) => endsWithName(c.path, name))) noMatch('excludeModules', name, candidates);
  const named = candidates.filter(hit);
  if (!named.length) noMatch('targetModules', String(targetModules), candidates);
  const layers = layersToTransform === undefined ? undefined : new Set(layersToTransform);
  // a whole path in the list is meant as it is, whatever its layer: PEFT's rule
  const whole = (path: string) => Array.isArray(targetModules) && targetModules.includes(path);
  const found = named.filter(
    ({ path }) => !excluded(path) && (!layers || whole(path) || layers.has(layerOf(path, layersPattern) ?? -1)),
  );
  if (layers && !lenient) {
    const there = new Set(named.map((c) => layerOf(c.path, layersPattern)));
    for (const l of layers)
      if (!there.has(l))
        throw new LowrankError(
          'lora',
          'layersToTransform names a layer that is not there',
          String(l),
          `Layers: ${[...there].filter((x) => x !== undefined).join(', ')}`,
        );
  }
  if (!found.length)
    throw new LowrankError(
      'lora',
      'every target is excluded',
      `targetModules ${JSON.stringify(targetModules)}`,
      'Loosen excludeModules, modulesToSave or layersToTransform',
    );
  for (const [option, patterns] of [
    ['rankPattern', config.rankPattern],
    ['alphaPattern', config.alphaPattern],
  ] as const)
    for (const key of Object.keys(patterns))
      if (!lenient && !found.some((c) => patternHits(key, c.path, option))) noMatch(option, key, found, 'target');
  return found.map((c) => c.path);
}

/** PEFT's rule for rank and alpha patterns: a regular expression over the end of the path, at a dot. */
function patternHits(key: string, path: string, option: string): boolean {
  return fullMatch(`(?:.*\\.)?(?:${key})`, path, option);
}

/** r and scale of one target. */
export function rankAndScale(config: LoraConfig, path: string): { r: number; alpha: number; scale: number } {
  const pick = (patterns: Readonly<Record<string, number>>, option: string) =>
    Object.entries(patterns).find(([key]) => patternHits(key, path, option))?.[1];
  const r = pick(config.rankPattern, 'rankPattern') ?? config.r;
  const alpha = pick(config.alphaPattern, 'alphaPattern') ?? config.loraAlpha;
  return { r, alpha, scale: alpha / (config.useRslora ? Math.sqrt(r) : r) };
}
