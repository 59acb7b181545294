// Philox4x32-10 (Salmon et al. 2011); see common/philox.ts. The upper word of a product is made from 16-bit pieces.
fn multiply_high(a: u32, b: u32) -> u32 {
  let al = a & 0xffffu;
  let ah = a >> 16u;
  let bl = b & 0xffffu;
  let bh = b >> 16u;
  let middle = al * bh + ((al * bl) >> 16u); // below 2³²: (2¹⁶ − 1)² + 2¹⁶
  let other = ah * bl + (middle & 0xffffu);
  return ah * bh + (middle >> 16u) + (other >> 16u);
}

// counter [i, site, step, stream], key [lo, hi]
fn philox(counter: vec4<u32>, key: vec2<u32>) -> vec4<u32> {
  var c = counter;
  var k = key;
  for (var round = 0; round < 10; round++) {
    let h0 = multiply_high(0xd2511f53u, c.x);
    let l0 = 0xd2511f53u * c.x;
    let h1 = multiply_high(0xcd9e8d57u, c.z);
    let l1 = 0xcd9e8d57u * c.z;
    c = vec4<u32>(h1 ^ c.y ^ k.x, l1, h0 ^ c.w ^ k.y, l0);
    k += vec2<u32>(0x9e3779b9u, 0xbb67ae85u);
  }
  return c;
}

// In [0, 1), from 24 bits. Exact.
fn uniform_of(word: u32) -> f32 {
  return f32(word >> 8u) * 5.9604644775390625e-08;
}
