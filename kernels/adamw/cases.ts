import { type CaseInit, defineCases, type Layout, listed, normal, of, spiked, t, uniform } from '../common/cases.ts';
import type { Adamw } from './contract.ts';

const attrs = { beta1: 0.9, beta2: 0.999, eps: 1e-8 };
/** lr, weight decay and corrections of the n-th step. */
const hyper = (lr: number, weightDecay: number, step: number) =>
  of('f32', [4], listed(lr, weightDecay, 1 - 0.9 ** step, Math.sqrt(1 - 0.999 ** step)));
const state = (shape: readonly number[], layout: Layout = 'contiguous') => ({
  p: t(shape, { layout }),
  g: t(shape, { layout }),
  m: of('f32', shape, normal(0.1), layout),
  v: of('f32', shape, uniform(0, 0.01), layout),
  hyper: hyper(1e-3, 0.01, 7),
});
const make = (
  name: string,
  inputs: CaseInit<Adamw>['inputs'],
  rest: Partial<CaseInit<Adamw>> = {},
): CaseInit<Adamw> => ({ name, inputs, attrs, ...rest });

export const cases = defineCases<Adamw>(
  [
    ...[0, 1, 31, 32, 33, 127, 4099].map((n) => make(`n=${n}`, state([n]), { inplace: true })),
    make('rows', state([7, 67]), { inplace: true }),
    make(
      'first step',
      {
        ...state([5, 33]),
        m: of('f32', [5, 33], listed(0)),
        v: of('f32', [5, 33], listed(0)),
        hyper: hyper(1e-3, 0, 1),
      },
      { inplace: true },
    ),
    make('scaled gradient', { ...state([5, 33]), gradScale: of('f32', [1], listed(0.37)) }, { inplace: true }),
    make('f32 gradient', { ...state([5, 33]), g: of('f32', [5, 33]) }, { dtypes: ['f16', 'bf16'], inplace: true }),
    make('large decay and rate', { ...state([65]), hyper: hyper(0.1, 0.5, 100) }, { inplace: true }),
    make('zero gradient', { ...state([33]), g: t([33], { values: listed(0) }), hyper: hyper(1e-3, 0, 3) }),
    make(
      'specials',
      { ...state([33]), g: t([33], { values: spiked({ 3: NaN, 5: Infinity, 32: -Infinity }) }) },
      { inplace: true },
    ),
    make('sliced', state([5, 31], 'sliced'), { outputs: { p: 'sliced', m: 'sliced', v: 'sliced' }, inplace: true }),
    make('other betas', state([67]), { attrs: { beta1: 0.8, beta2: 0.95, eps: 1e-6 } }),
  ],
  (_, output) => (output === 'p' ? { rel: 1e-6, abs: 1e-6 } : { rel: 1e-6, row: 1e-6 }),
);
