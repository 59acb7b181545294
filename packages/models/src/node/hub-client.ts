import { HubApiError } from '@huggingface/hub';
import { LowrankError } from '@lowrank/tensor';
import { type HubOptions, refusal, unreached } from '../hub/access.ts';

/** A repository at a revision, and how to reach it. */
export interface HubAccess {
  readonly repository: string;
  readonly revision: string;
  readonly options: HubOptions;
}

/** What every call of the hub's client takes. */
interface HubParameters {
  repo: string;
  revision: string;
  hubUrl?: string;
  accessToken?: string;
  fetch?: typeof globalThis.fetch;
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
  try {
    return await call(parameters);
  } catch (cause) {
    if (cause instanceof LowrankError) throw cause;
    const what = `${repository}${path ? `/${path}` : ''} at ${revision}`;
    throw cause instanceof HubApiError
      ? refusal(cause.statusCode, what, token !== undefined, cause)
      : unreached(what, cause);
  }
}
