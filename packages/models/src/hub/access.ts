import { check, LowrankError } from '@lowrank/tensor';

/** How to reach a repository of the hub. */
export interface HubOptions {
  /** A branch, a tag or a commit; `main` by default. */
  readonly revision?: string;
  /** Access token (`hf_…`) for private and gated repositories. */
  readonly token?: string;
  /** The hub's address; `https://huggingface.co` by default. */
  readonly endpoint?: string;
  /** The GGUF file to open, for repositories of GGUF files. */
  readonly gguf?: string;
  /** The `fetch` to use: a proxy, a test. */
  readonly fetch?: typeof globalThis.fetch;
}

/** `owner/name`, or a name alone. Throws for what is no id of a model, and for a token that cannot be one. */
export function checkAccess(id: string, { token }: HubOptions): string {
  const rule = /^[\w-][\w.-]*(\/[\w-][\w.-]*)?$/;
  check(rule.test(id), 'hub', 'not the id of a model', id, 'Ids look like HuggingFaceTB/SmolLM2-135M-Instruct');
  const hint = 'Make one at huggingface.co/settings/tokens';
  check(token === undefined || token.startsWith('hf_'), 'hub', 'an access token begins with hf_', '', hint);
  return id;
}

/** What a status of the hub means, and what to do about it. `what` is the file, repository and revision asked for. */
export function refusal(status: number, what: string, hasToken: boolean, cause?: unknown): LowrankError {
  const error = (rule: string, facts: string, hint = '') => new LowrankError('hub', rule, facts, hint, { cause });
  if (status === 401 || status === 403) {
    const hint = hasToken
      ? "The token may not read it: accept the model's terms on its page, or use another token"
      : 'It is private, gated or not there: pass a token that may read it, or correct the id';
    return error('the hub refuses access', `${what}: status ${status}`, hint);
  }
  if (status === 404) {
    const hint = 'Correct the id or the revision; a private repository needs a token';
    return error('the repository, revision or file is not there', what, hint);
  }
  const hint = status >= 500 || status === 429 ? 'Try again later' : '';
  return error('the hub answers with an error', `${what}: status ${status}`, hint);
}

const unreachable = 'the hub cannot be reached';

/** The network failed, the hub said nothing. */
export function unreached(what: string, cause: unknown): LowrankError {
  const message = cause instanceof Error ? cause.message : String(cause);
  const under = cause instanceof Error && cause.cause instanceof Error ? ` (${cause.cause.message})` : '';
  const hint = 'Check the network, or name a folder that holds the model';
  return new LowrankError('hub', unreachable, `${what}: ${message}${under}`, hint, { cause });
}

/** Did the network fail, as opposed to the hub refusing? Then what is cached may serve. */
export function isUnreached(error: unknown): boolean {
  return error instanceof LowrankError && error.rule === unreachable;
}
