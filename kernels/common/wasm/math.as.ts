// Elementary functions on four f32, within 2 units in the last place, special values as IEEE has them.
import { madd, nmadd } from './simd.as';

/**
 * eˣ = 2ⁿ · e^r with n = round(x / ln 2) and |r| ≤ ln 2 / 2; polynomial of Cephes' expf. The scale is applied in two halves, so that
 * subnormal results are right and large ones overflow to infinity.
 */
@inline
export function vexp(x: v128): v128 {
  x = f32x4.pmax(f32x4.pmin(x, f32x4.splat(100)), f32x4.splat(-110));
  const magic = f32x4.splat(12582912);
  const t = f32x4.add(f32x4.mul(x, f32x4.splat(1.44269504088896341)), magic);
  const n = f32x4.sub(t, magic);
  const i = i32x4.sub(t, magic);
  let r = nmadd(n, f32x4.splat(0.693359375), x);
  r = nmadd(n, f32x4.splat(-2.12194440e-4), r);
  let y = f32x4.splat(1.9875691500e-4);
  y = madd(y, r, f32x4.splat(1.3981999507e-3));
  y = madd(y, r, f32x4.splat(8.3334519073e-3));
  y = madd(y, r, f32x4.splat(4.1665795894e-2));
  y = madd(y, r, f32x4.splat(1.6666665459e-1));
  y = madd(y, r, f32x4.splat(5.0000001201e-1));
  y = f32x4.add(madd(y, f32x4.mul(r, r), r), f32x4.splat(1));
  const half = i32x4.shr_s(i, 1);
  const bias = i32x4.splat(127);
  const s0 = i32x4.shl(i32x4.add(half, bias), 23);
  const s1 = i32x4.shl(i32x4.add(i32x4.sub(i, half), bias), 23);
  return f32x4.mul(f32x4.mul(y, s0), s1);
}

/** Natural logarithm: x = 2ᵉ · m with m in [√½, √2); polynomial of Cephes' logf. */
@inline
export function vlog(x: v128): v128 {
  const tiny = f32x4.lt(x, f32x4.splat(1.17549435e-38));
  const scaled = v128.bitselect(f32x4.mul(x, f32x4.splat(8388608)), x, tiny);
  // Splits at √½: the exponent counts from there.
  const offset = i32x4.splat(0x3f3504f3);
  const shifted = i32x4.sub(scaled, offset);
  const exponent = i32x4.shr_s(shifted, 23);
  const m = f32x4.sub(i32x4.sub(scaled, i32x4.shl(exponent, 23)), f32x4.splat(1));
  const e = f32x4.sub(f32x4.convert_i32x4_s(exponent), v128.and(tiny, f32x4.splat(23)));
  const z = f32x4.mul(m, m);
  let y = f32x4.splat(7.0376836292e-2);
  y = madd(y, m, f32x4.splat(-1.1514610310e-1));
  y = madd(y, m, f32x4.splat(1.1676998740e-1));
  y = madd(y, m, f32x4.splat(-1.2420140846e-1));
  y = madd(y, m, f32x4.splat(1.4249322787e-1));
  y = madd(y, m, f32x4.splat(-1.6668057665e-1));
  y = madd(y, m, f32x4.splat(2.0000714765e-1));
  y = madd(y, m, f32x4.splat(-2.4999993993e-1));
  y = madd(y, m, f32x4.splat(3.3333331174e-1));
  y = f32x4.mul(f32x4.mul(y, m), z);
  y = madd(e, f32x4.splat(-2.12194440e-4), y);
  y = nmadd(z, f32x4.splat(0.5), y);
  let r = madd(e, f32x4.splat(0.693359375), f32x4.add(m, y));
  const infinity = f32x4.splat(Infinity);
  r = v128.bitselect(x, r, f32x4.eq(x, infinity));
  r = v128.bitselect(f32x4.neg(infinity), r, f32x4.eq(x, f32x4.splat(0)));
  // Negative arguments and NaN.
  return v128.bitselect(r, f32x4.splat(NaN), f32x4.ge(x, f32x4.splat(0)));
}

/** 1 / (1 + e⁻ˣ). */
@inline
export function vsigmoid(x: v128): v128 {
  const one = f32x4.splat(1);
  return f32x4.div(one, f32x4.add(one, vexp(f32x4.neg(x))));
}

/** x / (1 + e⁻ˣ). */
@inline
export function vsilu(x: v128): v128 {
  return f32x4.div(x, f32x4.add(f32x4.splat(1), vexp(f32x4.neg(x))));
}

/** Odd polynomial (Cephes' tanhf) below 0.625, 1 − 2/(e²ˣ + 1) above. */
@inline
export function vtanh(x: v128): v128 {
  const a = f32x4.abs(x);
  const z = f32x4.mul(x, x);
  let p = f32x4.splat(-5.70498872745e-3);
  p = madd(p, z, f32x4.splat(2.06390887954e-2));
  p = madd(p, z, f32x4.splat(-5.37397155531e-2));
  p = madd(p, z, f32x4.splat(1.33314422036e-1));
  p = madd(p, z, f32x4.splat(-3.33332819422e-1));
  const small = madd(f32x4.mul(p, z), x, x);
  const one = f32x4.splat(1);
  const e = vexp(f32x4.add(a, a));
  const large = f32x4.sub(one, f32x4.div(f32x4.splat(2), f32x4.add(e, one)));
  const sign = v128.and(x, i32x4.splat(0x80000000));
  return v128.bitselect(small, v128.or(large, sign), f32x4.lt(a, f32x4.splat(0.625)));
}

/** Bits 64·i… of the fraction of 2/π. */
function twoOverPi(i: i32): u64 {
  if (i == 0) return 0xa2f9836e4e441529;
  if (i == 1) return 0xfc2757d1f534ddc0;
  if (i == 2) return 0xdb6295993c439041;
  return 0xfe5163abdebbc561;
}

let quadrant: i32 = 0;

/**
 * Brings |x| to r in [−π/4, π/4] (returned) and the quadrant (left in `quadrant`). Up to 10⁵ one multiplication in f64 is exact enough; beyond,
 * x = m · 2ᵉ with a 24-bit m, and 64 bits of 2/π around the place value of m give quadrant and fraction (Payne and Hanek).
 */
function reduce(x: f32): f64 {
  const a = abs<f32>(x);
  if (a < 1e5) {
    const n = nearest<f64>(<f64>a * 0.6366197723675814);
    quadrant = <i32>n;
    return <f64>a - n * 1.5707963267341256 - n * 6.077100506506192e-11;
  }
  const bits = reinterpret<u32>(a);
  const m = <u64>((bits & 0x7fffff) | 0x800000);
  // m · 2^shift; the bits of 2/π that make multiples of 4 quadrants are skipped.
  const shift = <i32>(bits >> 23) - 150;
  const skip = shift - 2;
  let window: u64;
  if (skip <= 0) window = twoOverPi(0) >> <u64>-skip;
  else {
    const at = skip & 63;
    const i = skip >> 6;
    window = at == 0 ? twoOverPi(i) : (twoOverPi(i) << <u64>at) | (twoOverPi(i + 1) >> <u64>(64 - at));
  }
  const turns = m * window;
  // Top two bits: quadrant. The rest, read as signed around the nearest quadrant, is the fraction.
  const rounded = (turns + 0x2000000000000000) >> 62;
  quadrant = <i32>rounded;
  return <f64>(<i64>(turns - (rounded << 62))) * (1.5707963267948966 / 4611686018427387904.0);
}

function cosOf(r: f64): f64 {
  const z = r * r;
  return 1 + z * (-0.5 + z * (0.04166666666666666 + z * (-0.001388888888887411 + z * (2.48015872894767e-5 + z * -2.7557314351390663e-7))));
}

function sinOf(r: f64): f64 {
  const z = r * r;
  return r + r * z * (-0.16666666666666632 + z * (0.008333333333322118 + z * (-0.00019841269829589539 + z * (2.755731362138572e-6 + z * -2.5050747762857807e-8))));
}

export function sin32(x: f32): f32 {
  if (!(abs<f32>(x) < Infinity)) return NaN;
  const r = reduce(x);
  const v = quadrant & 1 ? cosOf(r) : sinOf(r);
  const s = quadrant & 2 ? -v : v;
  if (x == 0) return x;
  return <f32>(x < 0 ? -s : s);
}

export function cos32(x: f32): f32 {
  if (!(abs<f32>(x) < Infinity)) return NaN;
  const r = reduce(x);
  const v = quadrant & 1 ? sinOf(r) : cosOf(r);
  return <f32>((quadrant + 1) & 2 ? -v : v);
}

/** cos and sin of 2π·t for t in [0, 1), four at a time: the reduction to an eighth of a turn is exact. */
@inline
export function vcosTurn(t: v128): v128 {
  return turn(f32x4.add(f32x4.mul(t, f32x4.splat(4)), f32x4.splat(1)));
}

@inline
export function vsinTurn(t: v128): v128 {
  return turn(f32x4.mul(t, f32x4.splat(4)));
}

/** sin(q · π/2). */
@inline
function turn(q: v128): v128 {
  const n = f32x4.nearest(q);
  const r = f32x4.mul(f32x4.sub(q, n), f32x4.splat(1.57079632679489662));
  const i = i32x4.trunc_sat_f32x4_s(n);
  const z = f32x4.mul(r, r);
  let s = f32x4.splat(-1.9515295891e-4);
  s = madd(s, z, f32x4.splat(8.3321608736e-3));
  s = madd(s, z, f32x4.splat(-1.6666654611e-1));
  s = madd(f32x4.mul(s, z), r, r);
  let c = f32x4.splat(2.443315711809948e-5);
  c = madd(c, z, f32x4.splat(-1.388731625493765e-3));
  c = madd(c, z, f32x4.splat(4.166664568298827e-2));
  c = madd(f32x4.mul(c, z), z, nmadd(z, f32x4.splat(0.5), f32x4.splat(1)));
  const odd = i32x4.eq(v128.and(i, i32x4.splat(1)), i32x4.splat(1));
  const v = v128.bitselect(c, s, odd);
  return v128.xor(v, i32x4.shl(v128.and(i, i32x4.splat(2)), 30));
}

/** ln x in f64 for normal x > 0, to about 1e-14. */
export function log64(x: f64): f64 {
  const bits = reinterpret<u64>(x);
  let e = <i32>(bits >> 52) - 1023;
  let m = reinterpret<f64>((bits & 0xfffffffffffff) | 0x3ff0000000000000);
  if (m > 1.4142135623730951) {
    m *= 0.5;
    e++;
  }
  const s = (m - 1) / (m + 1);
  const z = s * s;
  let p: f64 = 1.0 / 19.0;
  for (let k = 17; k >= 1; k -= 2) p = p * z + 1.0 / <f64>k;
  return 2 * s * p + <f64>e * 0.6931471805599453;
}

/** eˣ in f64, to about 1e-14; 0 and infinity beyond ±700. */
function exp64(x: f64): f64 {
  if (x != x) return x;
  if (x > 700) return Infinity;
  if (x < -700) return 0;
  const n = nearest<f64>(x * 1.4426950408889634);
  const r = x - n * 0.6931471803691238 - n * 1.9082149292705877e-10;
  let p: f64 = 1;
  for (let k = 13; k >= 1; k--) p = p * (r / <f64>k) + 1;
  return p * reinterpret<f64>(<u64>(<i64>n + 1023) << 52);
}

/** aᵇ as Math.pow has it, through f64. */
export function pow32(a: f32, b: f32): f32 {
  if (b == 0) return 1;
  if (b != b || a != a) return NaN;
  const m = <f64>abs<f32>(a);
  const whole = nearest<f32>(b) == b;
  const odd = whole && abs<f32>(b) < 16777216 && (<i32>b & 1) != 0;
  if (a == 0) {
    const z: f32 = b > 0 ? 0 : Infinity;
    return odd ? copysign<f32>(z, a) : z;
  }
  if (abs<f32>(b) == Infinity) {
    if (m == 1) return NaN;
    return (m > 1) == (b > 0) ? Infinity : 0;
  }
  if (m == Infinity) {
    const z: f32 = b > 0 ? Infinity : 0;
    return a < 0 && odd ? -z : z;
  }
  if (a < 0 && !whole) return NaN;
  const y = <f32>exp64(<f64>b * log64(m));
  return a < 0 && odd ? -y : y;
}
