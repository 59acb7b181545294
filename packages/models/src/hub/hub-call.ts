import { HubApiError } from '@huggingface/hub';
import { check, LowrankError } from '@lowrank/tensor';
import type { HubOptions } from './hub-files.ts';

/** A repository at a revision, and how to reach it. */
export interface HubAccess {
  readonly repository: string;
  readonly revision: string;
  readonly options: HubOptions;
}

/** What every call of the hub's client takes. */
export interface HubParameters {
  repo: string;
  revision: string;
  hubUrl?: string;
  accessToken?: string;
  fetch?: typeof globalThis.fetch;
}

/** `owner/name`, or a name alone. Throws for what is no id of a model. */
export function repositoryOf(id: string): string {
  const rule = /^[\w-][\w.-]*(\/[\w-][\w.-]*)?$/;
  check(rule.test(id), 'hub', 'not the id of a model', id, 'Ids look like HuggingFaceTB/SmolLM2-135M-Instruct');
  return id;
}

/** Runs a call of the client; turns its errors into ones that say what to do. `path` is the file in question, where there is one. */
export async function hubCall<T>(
  access: HubAccess,
  path: string | undefined,
  call: (parameters: HubParameters) => Promise<T>,
): Promise<T> {
  const { repository, revision, options } = access;
  const { endpoint, token, fetch } = options;
  const parameters: HubParameters = {
    repo: repository,
    revision,
    ...(endpoint === undefined ? {} : { hubUrl: endpoint.replace(/\/+$/, '') }),
    ...(token === undefined ? {} : { accessToken: token }),
    ...(fetch === undefined ? {} : { fetch }),
  };
  check(
    token === undefined || token.startsWith('hf_'),
    'hub',
    'an access token begins with hf_',
    '',
    'Make one at huggingface.co/settings/tokens',
  );
  try {
    return await call(parameters);
  } catch (cause) {
    throw explain(cause, `${repository}${path ? `/${path}` : ''} at ${revision}`, token !== undefined);
  }
}

/** Did the network fail, as opposed to the hub refusing? Then what is cached may serve. */
export function isUnreachable(error: unknown): boolean {
  return error instanceof LowrankError && error.rule === unreachable;
}

const unreachable = 'the hub cannot be reached';

function explain(cause: unknown, what: string, hasToken: boolean): LowrankError {
  if (cause instanceof LowrankError) return cause;
  const error = (rule: string, facts: string, hint = '') => new LowrankError('hub', rule, facts, hint, { cause });
  const message = cause instanceof Error ? cause.message : String(cause);
  if (!(cause instanceof HubApiError)) {
    const under = cause instanceof Error && cause.cause instanceof Error ? ` (${cause.cause.message})` : '';
    return error(
      unreachable,
      `${what}: ${message}${under}`,
      'Check the network, or name a folder that holds the model',
    );
  }
  const { statusCode } = cause;
  if (statusCode === 401 || statusCode === 403) {
    const hint = hasToken
      ? 'The token may not read it: accept the model’s terms on its page, or use another token'
      : 'It is private, gated or not there: pass a token that may read it, or correct the id';
    return error('the hub refuses access', `${what}: status ${statusCode}`, hint);
  }
  if (statusCode === 404)
    return error(
      'the repository, revision or file is not there',
      what,
      'Correct the id or the revision; a private repository needs a token',
    );
  return error(
    'the hub answers with an error',
    `${what}: status ${statusCode}, ${message}`,
    statusCode >= 500 || statusCode === 429 ? 'Try again later' : '',
  );
}
