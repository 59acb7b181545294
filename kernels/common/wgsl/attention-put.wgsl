// What was asked for goes to `tile`. Part of `main`.
#for l in 0..$(NEXT)
    {
      let i = id + $(l)u * $(THREADS)u;
      if i < 64u * row_vectors {
        tile_put(i / row_vectors * row_step + i % row_vectors, next_$(l));
      }
    }
#endfor
