import { check, isFloat, type Module, nearest, type RecomputePolicy, type Tensor } from '@lowrank/tensor';
import { type Dataset, ignored } from './data/dataset.ts';

/** What a model is told about a batch besides its ids. */
export interface HiddenInput {
  /** i32 [B, T] */
  readonly positions: Tensor;
  /** i32 [B, T]: the first position that each one sees. Absent where it is 0 everywhere. */
  readonly starts?: Tensor;
  readonly recompute?: RecomputePolicy;
  /** Let what blocks keep wait in host memory, where the backend can. */
  readonly offload?: boolean;
}

/**
 * What the trainer asks of a model: parameters, and hidden states with the head apart from them, so that logits need never exist whole.
 * `CausalLm` of `@lowrank/models` has everything but `parameters`: take those of an adapter, or `selectParameters(model, …)`.
 * Forward passes are recorded and repeated: they must not write host data, and must do the same work for batches of one shape.
 */
export interface TrainableModel {
  /** What is trained, by name: leaves with requiresGrad. Asked once. */
  parameters(): Iterable<readonly [name: string, tensor: Tensor]>;
  /** Hidden states [B, T, K] of ids i32 [B, T]. */
  hidden(ids: Tensor, input: HiddenInput): Tensor;
  /** Logits [n, V] of rows [n, K] of hidden states. */
  head(rows: Tensor): Tensor;
  /** Ids from 0 to here are known; data with others are refused. */
  readonly vocabSize?: number;
  /** Switches what only training does (dropout). */
  setTraining?(on: boolean): void;
  /** Called before rows of up to so many tokens come. */
  prepare?(length: number): unknown;
}

/** Throws where data hold an id that the model does not know: it would read as zeros. */
export function checkIds({ vocabSize }: TrainableModel, data: Dataset): void {
  if (vocabSize === undefined) return;
  const { largestId } = data;
  check(
    largestId < vocabSize,
    'train',
    'the data hold an id that the model does not know',
    `${largestId}, its vocabulary has ${vocabSize}`,
    'Encode with the tokenizer of this model',
  );
}

/** Throws where a sample has nothing to learn: alone in a step it would divide by zero tokens. */
export function checkLearnable(data: Dataset): void {
  const masked = data.samples.filter(({ labels }) => !labels.some((label, i) => i > 0 && label !== ignored));
  check(
    masked.length === 0,
    'train',
    'all labels of a sample are masked',
    () => `${masked[0]!.where}${masked.length > 1 ? ` and ${masked.length - 1} more` : ''}`,
    'Leave such samples out',
  );
}

/**
 * For full fine-tuning: makes parameters of a model trainable, and freezes the others. `all`, or patterns that are searched for in names
 * (`/layers\.(0|1)\./`, `'lm_head'`). Throws where a pattern finds nothing, or finds what cannot be trained (quantized weights).
 */
export function selectParameters(
  model: Module,
  select: 'all' | readonly (string | RegExp)[] = 'all',
): Map<string, Tensor> {
  const named = [...model.namedParameters()];
  const patterns = select === 'all' ? [/(?:)/] : select.map((s) => (typeof s === 'string' ? new RegExp(s) : s));
  const hits = (pattern: RegExp, name: string) => name.search(pattern) >= 0;
  for (const [i, pattern] of patterns.entries())
    check(
      named.some(([name]) => hits(pattern, name)),
      'train',
      'a pattern finds no parameter',
      String(pattern),
      `Nearest names: ${nearest(
        String(select[i]),
        named.map(([name]) => name),
      ).join(', ')}`,
    );
  const chosen = named.filter(([name]) => patterns.some((p) => hits(p, name)));
  const frozen = chosen.filter(([, t]) => !isFloat(t.dtype)).map(([name]) => name);
  check(
    frozen.length === 0,
    'train',
    'quantized weights cannot be trained themselves',
    () => frozen.slice(0, 3).join(', '),
    'Load the model dense, or train an adapter',
  );
  for (const [, t] of named) if (isFloat(t.dtype)) t.requireGrad(false);
  for (const [, t] of chosen) t.requireGrad(true);
  return new Map(chosen);
}
