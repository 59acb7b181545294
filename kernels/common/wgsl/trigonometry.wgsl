// sin and cos to about one unit in the last place, where built-in ones may be off by 2⁻¹¹. Cody and Waite's reduction by π/2 in three
// parts and the polynomials of Cephes' single precision on [−π/4, π/4]; good to |x| of some 10⁴.
fn sine_cosine(x: f32) -> vec2<f32> {
  let quarter = round(x * 0.63661977236758134);
  var r = fma(-quarter, 1.5703125, x);
  r = fma(-quarter, 4.837512969970703125e-4, r);
  r = fma(-quarter, 7.549789948768648e-8, r);
  let z = r * r;
  let s = r + r * z * (-1.6666654611e-1 + z * (8.3321608736e-3 + z * -1.9515295891e-4));
  let c = 1.0 - 0.5 * z + z * z * (4.166664568298827e-2 + z * (-1.388731625493765e-3 + z * 2.443315711809948e-5));
  let q = u32(i32(quarter)) & 3u;
  let swapped = select(vec2<f32>(s, c), vec2<f32>(c, s), (q & 1u) == 1u);
  return vec2<f32>(select(swapped.x, -swapped.x, q >= 2u), select(swapped.y, -swapped.y, q == 1u || q == 2u));
}
