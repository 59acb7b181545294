/** Turns tokens into text as they come, never cutting a character whose bytes are spread over several tokens. */
export class TokenStream {
  readonly #decode: (ids: readonly number[]) => string;
  readonly #skip: (id: number) => boolean;
  /** Tokens shown last, then those not yet shown: a token's text may depend on the one before it. */
  #ids: number[] = [];
  #shown = 0;
  #shownText = '';

  /** `skip` says which tokens have no text. */
  constructor(decode: (ids: readonly number[]) => string, skip: (id: number) => boolean = () => false) {
    this.#decode = decode;
    this.#skip = skip;
  }

  /** The text that this token completes; '' while a character is still open. */
  push(id: number): string {
    if (this.#skip(id)) return '';
    this.#ids.push(id);
    const text = this.#decode(this.#ids);
    return text.endsWith('\u{fffd}') ? '' : this.#show(text);
  }

  /** What is left at the end: the replacement characters of an unfinished sequence. */
  end(): string {
    return this.#ids.length > this.#shown ? this.#show(this.#decode(this.#ids)) : '';
  }

  #show(text: string): string {
    const fresh = text.slice(this.#shownText.length);
    this.#ids = this.#ids.slice(this.#shown);
    this.#shown = this.#ids.length;
    this.#shownText = this.#decode(this.#ids);
    return fresh;
  }
}
