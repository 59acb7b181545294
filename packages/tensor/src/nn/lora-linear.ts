import type { LinearAttrs, LinearViews } from '@lowrank/kernels';
import { defineFused, type Tensors } from '../ops/call.ts';
import { cast, matmul } from '../ops/primitives.ts';
import { concat, expand, reshape, split, transpose } from '../ops/views.ts';
import type { Tensor } from '../tensor.ts';
import { quantMatmul } from './quant-matmul.ts';

type Layer = Tensors<LinearViews>;

/** x·Wᵀ + bias, or x·W with `transposed`, for either kind of weight. */
function base(x: Tensor, layer: Layer, attrs: LinearAttrs, transposed = false): Tensor {
  const m = x.shape[0]!;
  const c =
    !transposed && layer.bias
      ? expand(reshape(cast(layer.bias, x.dtype), [1, attrs.outFeatures]), [m, attrs.outFeatures])
      : undefined;
  if (layer.quant && attrs.quant) return quantMatmul(x, layer.quant, attrs.quant, { transposed, ...(c ? { c } : {}) });
  const w = layer.weight!;
  return matmul(x, transposed ? w : transpose(w), { dtype: x.dtype as never, ...(c ? { c } : {}) });
}

/** Widths of the layers' outputs, and of their low-rank products. */
function widths(layers: readonly Layer[], attrs: readonly LinearAttrs[]) {
  return { out: attrs.map((a) => a.outFeatures), rank: layers.map((l) => l.a?.shape[0] ?? 0) };
}

const loraLinearBackward = defineFused({
  name: 'loraLinearBackward',
  cost: 'expensive',
  // gᵢ = sᵢ·dyᵢ·Bᵢ, dx = Σ dyᵢ·Wᵢ + gᵢ·Aᵢ, daᵢ = gᵢᵀ·x, dbᵢ = sᵢ·dyᵢᵀ·hᵢ
  decompose: ({ dy, x, h, layers }, { layers: attrs, needX }) => {
    const { out, rank } = widths(layers, attrs);
    const dys = split(dy, out);
    const hs = split(h, rank);
    const da: Tensor[] = [];
    const db: Tensor[] = [];
    let dx: Tensor | undefined;
    layers.forEach((layer, i) => {
      const g = dys[i]!;
      const at = attrs[i]!;
      let own = needX ? base(g, layer, at, true) : undefined;
      if (layer.a && layer.b) {
        const low = matmul(g, layer.b, { alpha: at.scale!, dtype: g.dtype as never });
        da.push(matmul(transpose(low), x, { dtype: 'f32' }));
        db.push(matmul(transpose(g), hs[i]!, { alpha: at.scale!, dtype: 'f32' }));
        if (own) own = matmul(low, layer.a, { c: own, dtype: g.dtype as never });
      }
      if (own) dx = dx ? dx.add(own) : own;
    });
    return { dx, da, db };
  },
  rule: 'none',
});

/** See kernels/lora-linear. */
export const loraLinear = defineFused({
  name: 'loraLinear',
  cost: 'expensive',
  keeps: ['h'],
  decompose: ({ x, layers }, { layers: attrs }) => {
    const hs: Tensor[] = [];
    const ys = layers.map((layer, i) => {
      const y = base(x, layer, attrs[i]!);
      if (!layer.a || !layer.b) return y;
      const h = matmul(x, transpose(layer.a), { dtype: x.dtype as never });
      hs.push(h);
      return matmul(h, transpose(layer.b), { alpha: attrs[i]!.scale!, c: y, dtype: x.dtype as never });
    });
    return { y: concat(ys, -1), h: hs.length ? concat(hs, -1) : x.device.empty([x.shape[0]!, 0], x.dtype) };
  },
  rule: {
    saves: (needs, { layers }, has) => {
      const each = (names: string[]) => layers.flatMap((_, i) => names.map((n) => `layers.${i}.${n}`)).filter(has);
      const low = layers.some((_, i) => needs(`layers.${i}.a`) || needs(`layers.${i}.b`));
      return [
        ...(low ? ['x', 'h'] : []),
        ...each(['a', 'b']),
        ...each([
          'weight',
          'quant.codes',
          'quant.absmax',
          'quant.codebook',
          'quant.nestedAbsmax',
          'quant.nestedCodebook',
          'quant.offset',
        ]),
      ];
    },
    vjp: ({ attrs, grad, saved, needs, has, place, spare, spec }) => {
      const dy = grad('y')!;
      const { device } = dy;
      const low = attrs.layers.some((_, i) => needs(`layers.${i}.a`) || needs(`layers.${i}.b`));
      const needX = needs('x');
      // without a gradient for the pairs, x and h are not read: they stand in by shape alone
      const stand = (path: string) => device.empty(spec(path).shape, spec(path).dtype);
      const layers = attrs.layers.map((at, i): Layer => {
        const p = (name: string) => `layers.${i}.${name}`;
        const quantNames = ['codes', 'absmax', 'codebook', 'nestedAbsmax', 'nestedCodebook', 'offset'].filter((n) =>
          has(p(`quant.${n}`)),
        );
        return {
          ...(at.quant
            ? { quant: Object.fromEntries(quantNames.map((n) => [n, saved(p(`quant.${n}`))])) as never }
            : { weight: saved(p('weight')) }),
          ...(has(p('a')) ? { a: saved(p('a')), b: saved(p('b')) } : {}),
        };
      });
      // gradients of the pairs go straight to where the optimizer reads them
      const into: Record<string, Tensor> = {};
      const over = low && needX ? spare('x') : undefined;
      if (over?.dtype === dy.dtype) into.dx = over;
      attrs.layers
        .flatMap((_, i) => (has(`layers.${i}.a`) ? [i] : []))
        .forEach((layer, at) => {
          for (const name of ['a', 'b']) {
            const path = `layers.${layer}.${name}`;
            const leaf = needs(path) ? place(path) : undefined;
            if (leaf?.dtype === 'f32') into[`d${name}.${at}`] = leaf;
          }
        });
      const { dx, da, db } = loraLinearBackward(
        { dy, x: low ? saved('x') : stand('x'), h: low ? saved('h') : stand('h'), layers },
        { layers: attrs.layers, needX },
        { into },
      );
      const out: Record<string, Tensor | undefined> = { x: dx };
      let pair = 0;
      attrs.layers.forEach((_, i) => {
        if (!has(`layers.${i}.a`)) return;
        for (const [name, g] of [
          ['a', da[pair]!],
          ['b', db[pair]!],
        ] as const) {
          const path = `layers.${i}.${name}`;
          if (needs(path)) out[path] = cast(g, spec(path).dtype);
        }
        pair++;
      });
      return out;
    },
  },
});
