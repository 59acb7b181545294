// Workgroup memory $(N) of $(SIZE) vectors of eight f16, from which subgroup matrices are loaded. MEMORY: how it is declared, since drivers do not
// load from every kind of array; found out by trial. TILE_UNIT: elements of a vector.
#if MEMORY == halves
var<workgroup> $(N): array<f16, $(SIZE) * 8>;
#elif MEMORY == words
var<workgroup> $(N): array<u32, $(SIZE) * 4>;
#else
var<workgroup> $(N): array<vec4<u32>, $(SIZE)>;
#endif

fn $(N)_put(i: u32, v: vec4<u32>) {
#if MEMORY == halves
#for w in 0..4
  {
    let pair = bitcast<vec2<f16>>(v[$(w)]);
    $(N)[i * 8u + $(w)u * 2u] = pair.x;
    $(N)[i * 8u + $(w)u * 2u + 1u] = pair.y;
  }
#endfor
#elif MEMORY == words
#for w in 0..4
  $(N)[i * 4u + $(w)u] = v[$(w)];
#endfor
#else
  $(N)[i] = v;
#endif
}
