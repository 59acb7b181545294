/** An error with the shape `op: rule broken: facts. hint`. `op` names the operation, option or file that refused. */
export class LowrankError extends Error {
  override readonly name: string = 'LowrankError';
  readonly op: string;
  readonly rule: string;
  readonly facts: string;
  readonly hint: string;

  constructor(op: string, rule: string, facts = '', hint = '', options?: ErrorOptions) {
    super(`${op}: ${rule}${facts ? `: ${facts}` : ''}${hint ? `. ${hint}` : ''}`, options);
    this.op = op;
    this.rule = rule;
    this.facts = facts;
    this.hint = hint;
  }
}

/** Throws a {@link LowrankError} unless `condition` holds. `facts` may be a function, so that text is built only on failure. */
export function check(
  condition: unknown,
  op: string,
  rule: string,
  facts: string | (() => string) = '',
  hint = '',
): asserts condition {
  if (!condition) throw new LowrankError(op, rule, typeof facts === 'function' ? facts() : facts, hint);
}
