import { LowrankError } from '@lowrank/tensor';

/** A step as checkpoints keep it: no times, so that a resumed run saves the same bytes. */
export interface HistoryEntry {
  readonly step: number;
  readonly loss: number;
  readonly gradNorm: number;
  readonly learningRate: number;
}

export interface EvaluationEntry {
  readonly step: number;
  readonly loss: number;
  readonly tokens: number;
}

/** Everything about a run's progress that is no tensor. Plain JSON. */
export interface TrainerState {
  version: 1;
  /** Steps done. */
  step: number;
  /** Epoch of the next step, and steps of it that are done: the place in the data. */
  epoch: number;
  position: number;
  /** Tokens read so far, without padding, and labels that counted. */
  inputTokens: number;
  tokens: number;
  best: { step: number; loss: number } | undefined;
  /** Evaluations since the best one, for early stopping. */
  stale: number;
  history: HistoryEntry[];
  evaluations: EvaluationEntry[];
  /** What a resumed run must share to go the same way. */
  settings: Record<string, string | number | boolean>;
}

export function freshState(settings: TrainerState['settings']): TrainerState {
  return {
    version: 1,
    step: 0,
    epoch: 0,
    position: 0,
    inputTokens: 0,
    tokens: 0,
    best: undefined,
    stale: 0,
    history: [],
    evaluations: [],
    settings,
  };
}

/** Throws where a checkpoint's run was set up otherwise than this one. */
export function checkSettings(saved: TrainerState, now: TrainerState['settings'], where: string): void {
  if (saved.version !== 1)
    throw new LowrankError('resume', 'checkpoint of another version', `${where}: ${saved.version}`);
  const names = new Set([...Object.keys(saved.settings), ...Object.keys(now)]);
  const differ = [...names].filter((n) => saved.settings[n] !== now[n]);
  if (differ.length)
    throw new LowrankError(
      'resume',
      'the run was set up otherwise',
      `${where}: ${differ.map((n) => `${n} ${saved.settings[n] ?? 'not said'} then, ${now[n] ?? 'not said'} now`).join('; ')}`,
      'Give the same settings and data, or start a new run in another folder',
    );
}
