// 32 rows of operand $(N), of 16 · DK f16, from row $(FROM) on into $(INTO). Part of `main`.
#for l in 0..$(LOADS)
    {
      let i = id + $(l)u * $(THREADS)u;
      let r = i / row_vectors;
      let c = i % row_vectors;
      if i < 32u * row_vectors {
        $(INTO)_put(r * row_step + c, $($(N)_BUFFER)[($(N)_base + ($(FROM) + r) * P.$(N)_strides.y) / 8u + c]);
      }
    }
#endfor
