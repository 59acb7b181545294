import { attentionInputs, setups } from '../attention/cases.ts';
import { reference as attention } from '../attention/reference.ts';
import { type CaseInit, defineCases, of, t, unitRoundoff, type Values } from '../common/cases.ts';
import type { RefArray } from '../common/reference.ts';
import type { AttentionBackward } from './contract.ts';

/** What the forward pass gave for the same inputs. */
const forward =
  (output: 'y' | 'lse'): Values =>
  (_, __, made, attrs) => {
    const { q, k, v, starts, ends } = made as Record<string, RefArray> & { q: RefArray; k: RefArray; v: RefArray };
    const inputs = { q, k, v, ...(starts ? { starts } : {}), ...(ends ? { ends } : {}) };
    return attention(inputs, attrs as AttentionBackward['attrs'])[output].data;
  };

export const cases = defineCases<AttentionBackward>(
  setups.map((setup): CaseInit<AttentionBackward> => {
    const [b, tq, , hq, , d] = setup.sizes;
    return {
      name: setup.name,
      ...(setup.dtypes ? { dtypes: setup.dtypes } : {}),
      inputs: {
        ...attentionInputs(setup), // first: y and lse are made from them
        y: t([b, tq, hq, d], { values: forward('y') }),
        lse: of('f32', [b, hq, tq], forward('lse')),
        dy: t([b, tq, hq, d]),
      },
      attrs: { scale: 1 / Math.sqrt(d), causal: setup.causal },
    };
  }),
  // dy·vᵀ and Δ are equal where a query sees one key: what is left of their difference is f32 rounding, hence abs.
  // p and ds may be rounded to the half dtype before they meet q, k and dy; sums over keys (dq) or queries (dk, dv).
  (dtype) => ({
    abs: 1e-6,
    row: 1e-5,
    all: 1e-5 + (dtype === 'f16' || dtype === 'bf16' ? 4 * unitRoundoff[dtype] : 0),
  }),
);
