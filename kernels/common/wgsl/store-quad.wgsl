// Stores up to four elements of a row of $(N), `step` apart. $(N)_STORE: `vector` (always four, on a vector), `pairs` (16 bits, on a
// word, side by side), `each`.
fn $(N)_put_quad(at: u32, v: vec4<f32>, count: u32, step: u32) {
#if $(N)_STORE == vector
  $(N)_store4(at, v);
#elif $(N)_STORE == pairs
  if count > 1u {
    $(N)_store2(at, v.x, v.y);
  } else {
    $(N)_store(at, v.x);
  }
  if count > 3u {
    $(N)_store2(at + 2u, v.z, v.w);
  } else if count == 3u {
    $(N)_store(at + 2u, v.z);
  }
#else
  for (var e = 0u; e < count; e++) {
    $(N)_store(at + e * step, v[e]);
  }
#endif
}
