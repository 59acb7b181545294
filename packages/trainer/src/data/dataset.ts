import { check } from '@lowrank/tensor';

/** A label that does not count. */
export const ignored = -100;

/** One sequence. `labels[i]` is `ids[i]` where that token is to be learnt, −100 elsewhere; batches shift them. */
export interface Sample {
  readonly ids: Int32Array;
  readonly labels: Int32Array;
  /** What messages call it. */
  readonly where: string;
}

export interface DatasetFacts {
  /** What fills rows behind their samples; never learnt, never seen. */
  readonly padTokenId: number;
  readonly records?: number;
  /** How many samples were cut. */
  readonly truncated?: number;
  /** Where the records are that were left out because nothing of them would be learnt. */
  readonly dropped?: readonly string[];
}

/** Encoded samples, in the order of the file. */
export class Dataset {
  readonly samples: readonly Sample[];
  readonly padTokenId: number;
  readonly records: number;
  readonly truncated: number;
  readonly dropped: readonly string[];

  constructor(samples: readonly Sample[], facts: DatasetFacts) {
    for (const { ids, labels, where } of samples) {
      check(
        ids.length === labels.length && ids.length > 0,
        'data',
        'ids and labels must be of one length',
        () => `${where}: ${ids.length}, ${labels.length}`,
      );
      check(
        ids.every((id) => id >= 0) && labels.every((label) => label >= 0 || label === ignored),
        'data',
        'ids must not be negative, nor labels other than −100',
        where,
      );
    }
    this.samples = samples;
    this.padTokenId = facts.padTokenId;
    this.records = facts.records ?? samples.length;
    this.truncated = facts.truncated ?? 0;
    this.dropped = facts.dropped ?? [];
  }

  get length(): number {
    return this.samples.length;
  }

  /** Tokens in all. */
  get tokens(): number {
    return this.samples.reduce((sum, s) => sum + s.ids.length, 0);
  }

  /** Tokens of the longest sample. */
  get longest(): number {
    return this.samples.reduce((most, s) => Math.max(most, s.ids.length), 0);
  }

  /** The largest of ids and labels. */
  get largestId(): number {
    let most = 0;
    for (const { ids, labels } of this.samples) {
      for (const id of ids) if (id > most) most = id;
      for (const label of labels) if (label > most) most = label;
    }
    return most;
  }

  /** Samples `from` … `to` (Array's slice), for held-out parts. */
  slice(from: number, to?: number): Dataset {
    return new Dataset(this.samples.slice(from, to), { padTokenId: this.padTokenId });
  }

  /** A short digest (FNV-1a over ids and labels): resuming on other data is an error. */
  fingerprint(): string {
    let h = 0x811c9dc5;
    const mix = (x: number) => {
      h = Math.imul(h ^ x, 0x01000193) >>> 0;
    };
    for (const { ids, labels } of this.samples) {
      mix(ids.length);
      for (let i = 0; i < ids.length; i++) {
        mix(ids[i]!);
        mix(labels[i]!);
      }
    }
    return `${this.samples.length}-${h.toString(16).padStart(8, '0')}`;
  }
}
