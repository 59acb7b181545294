import { Template } from '@huggingface/jinja';
import { check, LowrankError } from '@lowrank/tensor';
import { isObject } from '../files.ts';

/** One turn of a conversation. Templates may read further keys (`tool_calls`, `name`). */
export interface ChatMessage {
  readonly role: string;
  readonly content: unknown;
  readonly [key: string]: unknown;
}

export interface ChatOptions {
  /** End with what opens the assistant's turn. */
  readonly addGenerationPrompt?: boolean;
  /** JSON schemas of functions, for templates that know tools. */
  readonly tools?: readonly unknown[];
  /** Further variables of the template. */
  readonly variables?: Readonly<Record<string, unknown>>;
}

/** A model's chat template, or its several ones (`default`, `tool_use`). Compiled when first used. */
export class ChatTemplate {
  /** Template text by name. */
  readonly sources: ReadonlyMap<string, string>;
  readonly #compiled = new Map<string, Template>();
  readonly #specials: Readonly<Record<string, string>>;

  /** `specials`: `bos_token`, `eos_token`, … as templates see them. */
  constructor(sources: ReadonlyMap<string, string>, specials: Readonly<Record<string, string>>) {
    this.sources = sources;
    this.#specials = specials;
  }

  /** The text of a conversation. Throws what the template raises (an unknown role, turns out of order). */
  render(
    messages: readonly ChatMessage[],
    { addGenerationPrompt = false, tools, variables }: ChatOptions = {},
  ): string {
    const name = tools && this.sources.has('tool_use') ? 'tool_use' : 'default';
    const template = this.#template(name);
    try {
      return template.render({
        ...this.#specials,
        tools: tools ?? null,
        documents: null,
        ...variables,
        messages,
        add_generation_prompt: addGenerationPrompt,
      });
    } catch (cause) {
      const roles = messages.map((m) => m.role).join(', ');
      throw new LowrankError(
        'chat',
        'the template refuses the messages',
        `${(cause as Error).message}; roles: ${roles}`,
        '',
        { cause },
      );
    }
  }

  #template(name: string): Template {
    const known = this.#compiled.get(name);
    if (known) return known;
    const source = this.sources.get(name);
    const facts = () =>
      this.sources.size ? `the model has ${[...this.sources.keys()].join(', ')}, not ${name}` : 'the model has none';
    check(
      source !== undefined,
      'chat',
      'needs a chat template',
      facts,
      'Use an instruction-tuned model, or train on prompts and completions',
    );
    try {
      const template = new Template(source);
      this.#compiled.set(name, template);
      return template;
    } catch (cause) {
      throw new LowrankError('chat', 'the chat template cannot be read', (cause as Error).message, '', { cause });
    }
  }
}

/** `chat_template` as `tokenizer_config.json` has it: a text, or a list of named ones. */
export function templateSources(value: unknown): Map<string, string> {
  const sources = new Map<string, string>();
  if (typeof value === 'string') sources.set('default', value);
  else if (Array.isArray(value)) {
    for (const item of value)
      if (isObject(item) && typeof item.name === 'string' && typeof item.template === 'string')
        sources.set(item.name, item.template);
  }
  return sources;
}
