// The walk along the inner axis, blocks through `fetch`, and with EXTRA along that of the second product, through `fetch2`. Part of `main` of
// tiles.wgsl. In each round the next blocks are asked for before the present ones are multiplied.
// `fma` is said, since drivers need not fuse a product and a sum by themselves: NVIDIA's does not, and takes twice as long.
  let steps = (max(last, first) - first + $(BK)u - 1u) / $(BK)u;
#if EXTRA
  let k2 = select(0u, P.k2, split == 0u);
  let all_steps = steps + (k2 + $(BK)u - 1u) / $(BK)u;
#else
  let all_steps = steps;
#endif
#for l in 0..$(LOADS)
  var next_$(l): mat4x4<f32>;
#endfor
  for (var step = 0u; step <= all_steps; step++) {
    if step < all_steps {
#for l in 0..$(LOADS)
      if id + $(l)u * $(THREADS)u < blocks {
#if EXTRA
        if step >= steps {
          next_$(l) = fetch2(id + $(l)u * $(THREADS)u, m0, n0, (step - steps) * $(BK)u, k2);
        } else {
          next_$(l) = fetch(id + $(l)u * $(THREADS)u, m0, n0, first + step * $(BK)u, last);
        }
#else
        next_$(l) = fetch(id + $(l)u * $(THREADS)u, m0, n0, first + step * $(BK)u, last);
#endif
      }
#endfor
    }
    if step > 0u {
      for (var block = 0u; block < inner_blocks; block++) {
        let left_exchange = exchange(block, left_vectors);
        let right_exchange = exchange(block, right_vectors);
        for (var u = 0u; u < 4u; u++) {
          let left_at = (block * 4u + u) * left_vectors;
          let right_at = (block * 4u + u) * right_vectors;
#for g in 0..$(TMV)
          let a$(g) = left_tile[left_at + ((ty + $(g)u * (left_vectors / $(TMV)u)) ^ left_exchange)];
#endfor
#for j in 0..$(TNV)
          let b$(j) = right_tile[right_at + ((tx + $(j)u * (right_vectors / $(TNV)u)) ^ right_exchange)];
#endfor
#for i in 0..$(TM)
#for j in 0..$(TNV)
          sum_$(i)_$(j) = fma(vec4<f32>(a$(VECTOR_OF_$(i))[$(i)u % 4u]), b$(j), sum_$(i)_$(j));
#endfor
#endfor
        }
      }
    }
    workgroupBarrier();
    if step < all_steps {
#for l in 0..$(LOADS)
      if id + $(l)u * $(THREADS)u < blocks {
        keep(id + $(l)u * $(THREADS)u, next_$(l));
      }
#endfor
    }
    workgroupBarrier();
  }
