// The walk along the inner axis from $(START) to $(END), blocks through $(FETCH). Part of `main` of tiles.wgsl. In each round the next blocks
// are asked for before the present ones are multiplied.
  {
    let steps = (max($(END), $(START)) - $(START) + $(BK)u - 1u) / $(BK)u;
#for l in 0..$(LOADS)
    var next_$(l): mat4x4<f32>;
#endfor
    for (var step = 0u; step <= steps; step++) {
      if step < steps {
#for l in 0..$(LOADS)
        if id + $(l)u * $(THREADS)u < blocks {
          next_$(l) = $(FETCH)(id + $(l)u * $(THREADS)u, m0, n0, $(START) + step * $(BK)u, $(END));
        }
#endfor
      }
      if step > 0u {
        for (var block = 0u; block < inner_blocks; block++) {
          let left_exchange = exchange(block, left_vectors);
          let right_exchange = exchange(block, right_vectors);
#for u in 0..4
          {
            let left_at = (block * 4u + $(u)u) * left_vectors;
            let right_at = (block * 4u + $(u)u) * right_vectors;
#for g in 0..$(TMV)
            let a$(g) = left_tile[left_at + ((ty + $(g)u * (left_vectors / $(TMV)u)) ^ left_exchange)];
#endfor
#for j in 0..$(TNV)
            let b$(j) = right_tile[right_at + ((tx + $(j)u * (right_vectors / $(TNV)u)) ^ right_exchange)];
#endfor
#for i in 0..$(TM)
#for j in 0..$(TNV)
            sum_$(i)_$(j) += a$(VECTOR_OF_$(i))[$(i)u % 4u] * b$(j);
#endfor
#endfor
          }
#endfor
        }
      }
      workgroupBarrier();
      if step < steps {
#for l in 0..$(LOADS)
        if id + $(l)u * $(THREADS)u < blocks {
          keep(id + $(l)u * $(THREADS)u, next_$(l));
        }
#endfor
      }
      workgroupBarrier();
    }
  }
