// Elementary functions on four f32, within 2 units in the last place, special values as IEEE has them.
import { madd, nmadd } from './simd.as';

/**
 * Constants of these functions lie in memory, at a place below everything else: a broadcast load is one instruction, where engines build a
 * literal vector with three or four each time it is used (measured: 1.1 ns an exponential instead of 2.3).
 */
const TABLE: usize = 1024;

@inline
function constant(index: i32): v128 {
  return v128.load_splat<f32>(TABLE + (<usize>index << 2));
}

function put(index: i32, value: f32): void {
  store<f32>(TABLE + (<usize>index << 2), value);
}

const ONE: i32 = 0;
const HALF: i32 = 1;
const MAGIC: i32 = 2;
const LOG2E: i32 = 3;
const LN2_HIGH: i32 = 4;
const LN2_LOW: i32 = 5;
const EXP_MOST: i32 = 6;
const EXP_LEAST: i32 = 7;
/** 2⁰ as bits. */
const ONE_BITS: i32 = 8;
const EXP: i32 = 9;
const LOG: i32 = 15;
const TANH: i32 = 24;
const SIN: i32 = 29;
const COS: i32 = 32;
const TWO: i32 = 35;
const FOUR: i32 = 36;
const HALF_PI: i32 = 37;

/** Writes the table. Every thread writes the same numbers. */
export function writeConstants(): void {
  put(ONE, 1);
  put(HALF, 0.5);
  put(MAGIC, 12582912);
  put(LOG2E, 1.44269504088896341);
  put(LN2_HIGH, 0.693359375);
  put(LN2_LOW, -2.12194440e-4);
  put(EXP_MOST, 100);
  put(EXP_LEAST, -110);
  store<u32>(TABLE + (<usize>ONE_BITS << 2), 127);
  put(EXP, 1.9875691500e-4);
  put(EXP + 1, 1.3981999507e-3);
  put(EXP + 2, 8.3334519073e-3);
  put(EXP + 3, 4.1665795894e-2);
  put(EXP + 4, 1.6666665459e-1);
  put(EXP + 5, 5.0000001201e-1);
  put(LOG, 7.0376836292e-2);
  put(LOG + 1, -1.1514610310e-1);
  put(LOG + 2, 1.1676998740e-1);
  put(LOG + 3, -1.2420140846e-1);
  put(LOG + 4, 1.4249322787e-1);
  put(LOG + 5, -1.6668057665e-1);
  put(LOG + 6, 2.0000714765e-1);
  put(LOG + 7, -2.4999993993e-1);
  put(LOG + 8, 3.3333331174e-1);
  put(TANH, -5.70498872745e-3);
  put(TANH + 1, 2.06390887954e-2);
  put(TANH + 2, -5.37397155531e-2);
  put(TANH + 3, 1.33314422036e-1);
  put(TANH + 4, -3.33332819422e-1);
  put(SIN, -1.9515295891e-4);
  put(SIN + 1, 8.3321608736e-3);
  put(SIN + 2, -1.6666654611e-1);
  put(COS, 2.443315711809948e-5);
  put(COS + 1, -1.388731625493765e-3);
  put(COS + 2, 4.166664568298827e-2);
  put(TWO, 2);
  put(FOUR, 4);
  put(HALF_PI, 1.57079632679489662);
}

/**
 * eˣ = 2ⁿ · e^r with n = round(x / ln 2) and |r| ≤ ln 2 / 2; polynomial of Cephes' expf. The scale is applied in two halves, so that
 * subnormal results are right and large ones overflow to infinity.
 */
@inline
export function vexp(x: v128): v128 {
  x = f32x4.pmax(f32x4.pmin(x, constant(EXP_MOST)), constant(EXP_LEAST));
  const magic = constant(MAGIC);
  const t = madd(x, constant(LOG2E), magic);
  const n = f32x4.sub(t, magic);
  const i = i32x4.sub(t, magic);
  let r = nmadd(n, constant(LN2_HIGH), x);
  r = nmadd(n, constant(LN2_LOW), r);
  let y = constant(EXP);
  y = madd(y, r, constant(EXP + 1));
  y = madd(y, r, constant(EXP + 2));
  y = madd(y, r, constant(EXP + 3));
  y = madd(y, r, constant(EXP + 4));
  y = madd(y, r, constant(EXP + 5));
  y = f32x4.add(madd(y, f32x4.mul(r, r), r), constant(ONE));
  const half = i32x4.shr_s(i, 1);
  const bias = constant(ONE_BITS);
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
  const shifted = i32x4.sub(scaled, i32x4.splat(0x3f3504f3));
  const exponent = i32x4.shr_s(shifted, 23);
  const m = f32x4.sub(i32x4.sub(scaled, i32x4.shl(exponent, 23)), constant(ONE));
  const e = f32x4.sub(f32x4.convert_i32x4_s(exponent), v128.and(tiny, f32x4.splat(23)));
  const z = f32x4.mul(m, m);
  let y = constant(LOG);
  y = madd(y, m, constant(LOG + 1));
  y = madd(y, m, constant(LOG + 2));
  y = madd(y, m, constant(LOG + 3));
  y = madd(y, m, constant(LOG + 4));
  y = madd(y, m, constant(LOG + 5));
  y = madd(y, m, constant(LOG + 6));
  y = madd(y, m, constant(LOG + 7));
  y = madd(y, m, constant(LOG + 8));
  y = f32x4.mul(f32x4.mul(y, m), z);
  y = madd(e, constant(LN2_LOW), y);
  y = nmadd(z, constant(HALF), y);
  let r = madd(e, constant(LN2_HIGH), f32x4.add(m, y));
  const infinity = f32x4.splat(Infinity);
  r = v128.bitselect(x, r, f32x4.eq(x, infinity));
  r = v128.bitselect(f32x4.neg(infinity), r, f32x4.eq(x, f32x4.splat(0)));
  // Negative arguments and NaN.
  return v128.bitselect(r, f32x4.splat(NaN), f32x4.ge(x, f32x4.splat(0)));
}

/** 1 / (1 + e⁻ˣ). */
@inline
export function vsigmoid(x: v128): v128 {
  const one = constant(ONE);
  return f32x4.div(one, f32x4.add(one, vexp(f32x4.neg(x))));
}

/** x / (1 + e⁻ˣ). */
@inline
export function vsilu(x: v128): v128 {
  return f32x4.div(x, f32x4.add(constant(ONE), vexp(f32x4.neg(x))));
}

/** Odd polynomial (Cephes' tanhf) below 0.625, 1 − 2/(e²ˣ + 1) above. */
@inline
export function vtanh(x: v128): v128 {
  const a = f32x4.abs(x);
  const z = f32x4.mul(x, x);
  let p = constant(TANH);
  p = madd(p, z, constant(TANH + 1));
  p = madd(p, z, constant(TANH + 2));
  p = madd(p, z, constant(TANH + 3));
  p = madd(p, z, constant(TANH + 4));
  const small = madd(f32x4.mul(p, z), x, x);
  const one = constant(ONE);
  const e = vexp(f32x4.add(a, a));
  const large = f32x4.sub(one, f32x4.div(constant(TWO), f32x4.add(e, one)));
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
  return turn(f32x4.add(f32x4.mul(t, constant(FOUR)), constant(ONE)));
}

@inline
export function vsinTurn(t: v128): v128 {
  return turn(f32x4.mul(t, constant(FOUR)));
}

/** sin(q · π/2). */
@inline
function turn(q: v128): v128 {
  const magic = constant(MAGIC);
  const n = f32x4.add(q, magic);
  const r = f32x4.mul(f32x4.sub(q, f32x4.sub(n, magic)), constant(HALF_PI));
  const z = f32x4.mul(r, r);
  let s = constant(SIN);
  s = madd(s, z, constant(SIN + 1));
  s = madd(s, z, constant(SIN + 2));
  s = madd(f32x4.mul(s, z), r, r);
  let c = constant(COS);
  c = madd(c, z, constant(COS + 1));
  c = madd(c, z, constant(COS + 2));
  c = madd(f32x4.mul(c, z), z, nmadd(z, constant(HALF), constant(ONE)));
  // The last bits of the sum with the magic number are those of the quadrant.
  const odd = i32x4.shr_s(i32x4.shl(n, 31), 31);
  const v = v128.bitselect(c, s, odd);
  return v128.xor(v, i32x4.shl(i32x4.shr_u(n, 1), 31));
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
