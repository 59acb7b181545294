// 64 rows of operand $(N), of 16 · DK f16, from row $(FROM) on, are asked for: `next_l` of each invocation. Zeros beyond the keys. Part of `main`.
#for l in 0..$(NEXT)
    {
      let i = id + $(l)u * $(THREADS)u;
      let r = i / row_vectors;
      next_$(l) = vec4<u32>();
      if r < 64u && $(FROM) + r < P.keys {
        next_$(l) = $($(N)_BUFFER)[($(N)_base + ($(FROM) + r) * P.$(N)_strides.y) / 8u + i % row_vectors];
      }
    }
#endfor
