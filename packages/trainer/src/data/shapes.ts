import { check, LowrankError } from '@lowrank/tensor';
import type { SourceRecord } from './input.ts';
import { column, fillTemplate } from './template.ts';

/** A turn of a chat. Other keys (`tool_calls` …) reach the chat template as they are. */
export interface Message {
  readonly role: string;
  readonly content?: unknown;
  readonly [key: string]: unknown;
}

/** What a record asks to be learnt. */
export type Example =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'pair'; readonly prompt: string; readonly completion: string }
  /** Assistant turns before `learnFrom` are context. */
  | {
      readonly kind: 'chat';
      readonly messages: readonly Message[];
      readonly learnFrom: number;
      readonly tools?: readonly unknown[];
    };

/** How columns become text: `prompt: '{question}\n', completion: '{answer}'`, or `text: '{title}: {body}'`. */
export interface Templates {
  readonly prompt?: string;
  readonly completion?: string;
  readonly text?: string;
}

const roles: Readonly<Record<string, string>> = {
  human: 'user',
  user: 'user',
  gpt: 'assistant',
  chatgpt: 'assistant',
  assistant: 'assistant',
  model: 'assistant',
  system: 'system',
  tool: 'tool',
  function: 'tool',
};

function messages(value: unknown, key: string, where: string): Message[] {
  const ok = Array.isArray(value) && value.length > 0 && value.every((m) => typeof (m as Message)?.role === 'string');
  check(ok, 'data', 'messages must be a list of { role, content }', `${where}, "${key}"`);
  return value as Message[];
}

function chat(record: SourceRecord, turns: readonly Message[], learnFrom: number): Example {
  check(
    turns.slice(learnFrom).some((m) => m.role === 'assistant'),
    'data',
    'a chat needs an assistant turn to learn',
    () => `${record.where} has roles ${turns.map((m) => m.role).join(', ')}`,
  );
  const { tools } = record.value;
  return { kind: 'chat', messages: turns, learnFrom, ...(Array.isArray(tools) && tools.length ? { tools } : {}) };
}

/** ShareGPT: `conversations: [{ from, value }]`. */
function conversations({ value, where }: SourceRecord): Message[] {
  const list = value.conversations;
  check(Array.isArray(list) && list.length > 0, 'data', 'conversations must be a list of { from, value }', where);
  return list.map((turn: { from?: unknown; value?: unknown; role?: unknown; content?: unknown }) => {
    const from = String(turn.from ?? turn.role);
    const role = Object.hasOwn(roles, from) ? roles[from] : undefined;
    if (!role)
      throw new LowrankError(
        'data',
        'unknown speaker',
        `${where}: "${from}"`,
        `Known: ${Object.keys(roles).join(', ')}`,
      );
    return { role, content: turn.value ?? turn.content };
  });
}

/** Alpaca's wording (Taori et al. 2023), with and without an input. */
function alpacaPrompt(record: SourceRecord): string {
  const input = record.value.input;
  const withInput = typeof input === 'string' && input.trim() !== '';
  const context = withInput ? ', paired with an input that provides further context' : '';
  const asked = `### Instruction:\n${column(record, 'instruction')}\n\n${withInput ? `### Input:\n${input}\n\n` : ''}`;
  return `Below is an instruction that describes a task${context}. Write a response that appropriately completes the request.\n\n${asked}### Response:\n`;
}

function fromTemplates(record: SourceRecord, { prompt, completion, text }: Templates): Example {
  if (text !== undefined) {
    check(
      prompt === undefined && completion === undefined,
      'data',
      'text and prompt/completion templates exclude each other',
    );
    return { kind: 'text', text: fillTemplate(text, record) };
  }
  if (completion !== undefined)
    return {
      kind: 'pair',
      prompt: prompt === undefined ? '' : fillTemplate(prompt, record),
      completion: fillTemplate(completion, record),
    };
  throw new LowrankError(
    'data',
    'a prompt template needs a completion template',
    String(prompt),
    "Give completion: '{answer}' as well",
  );
}

/** What a record asks to be learnt: by templates where given, else by the columns it has. */
export function exampleOf(record: SourceRecord, templates: Templates = {}): Example {
  const { value, where } = record;
  const { prompt, completion, text } = templates;
  if ((prompt ?? completion ?? text) !== undefined) return fromTemplates(record, templates);
  if (value.messages !== undefined) return chat(record, messages(value.messages, 'messages', where), 0);
  if (value.conversations !== undefined) return chat(record, conversations(record), 0);
  if (value.prompt !== undefined && value.completion !== undefined) {
    if (Array.isArray(value.prompt) || Array.isArray(value.completion)) {
      const before = messages(value.prompt, 'prompt', where);
      return chat(record, [...before, ...messages(value.completion, 'completion', where)], before.length);
    }
    return { kind: 'pair', prompt: column(record, 'prompt'), completion: column(record, 'completion') };
  }
  if (value.instruction !== undefined && value.output !== undefined)
    return { kind: 'pair', prompt: alpacaPrompt(record), completion: column(record, 'output') };
  if (value.text !== undefined) return { kind: 'text', text: column(record, 'text') };
  throw new LowrankError(
    'data',
    'record has no known shape',
    `${where} has columns ${Object.keys(value).join(', ') || 'none'}`,
    "Known: messages; prompt and completion; text; instruction, input and output; conversations. Other columns take templates: prompt: '{question}\\n', completion: '{answer}'",
  );
}
