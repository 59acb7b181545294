import { check, nearest, type Tensor } from '@lowrank/tensor';

/** Parameters that learn otherwise. The first group that matches a name takes it. */
export interface GroupOptions {
  /** Searched for in names. */
  readonly match: string | RegExp;
  /** Factor of the schedule's learning rate. */
  readonly learningRateScale?: number;
  /** In place of the optimizer's own. */
  readonly weightDecay?: number;
}

export interface ResolvedGroup {
  readonly learningRateScale: number;
  /** undefined: the optimizer's. */
  readonly weightDecay: number | undefined;
}

/** Parameters by group, in their own order. A group that matches no parameter is an error. */
export function groupsOf(
  named: readonly (readonly [string, Tensor])[],
  options: readonly GroupOptions[],
  decay: 'matrices' | 'all',
): Map<ResolvedGroup, [string, Tensor][]> {
  const patterns = options.map((o) => (typeof o.match === 'string' ? new RegExp(o.match) : o.match));
  const hits = patterns.map(() => 0);
  const byKey = new Map<string, { group: ResolvedGroup; list: [string, Tensor][] }>();
  for (const [name, tensor] of named) {
    const i = patterns.findIndex((p) => name.search(p) >= 0);
    if (i >= 0) hits[i]!++;
    const own = options[i];
    const none = decay === 'matrices' && tensor.rank < 2;
    const group = {
      learningRateScale: own?.learningRateScale ?? 1,
      weightDecay: own?.weightDecay ?? (none ? 0 : undefined),
    };
    const key = JSON.stringify([group.learningRateScale, group.weightDecay ?? null]);
    const there = byKey.get(key) ?? { group, list: [] };
    there.list.push([name, tensor]);
    byKey.set(key, there);
  }
  for (const [i, n] of hits.entries())
    check(
      n > 0,
      'train',
      'a parameter group matches nothing',
      String(options[i]!.match),
      `Nearest names: ${nearest(
        String(options[i]!.match),
        named.map(([name]) => name),
      ).join(', ')}`,
    );
  return new Map([...byKey.values()].map(({ group, list }) => [group, list]));
}
