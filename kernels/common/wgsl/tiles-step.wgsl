// One inner index of a tile: $(U) of block $(BLOCK). Part of `main` of tiles.wgsl.
      {
        let left_at = left_stage + ($(BLOCK) * 4u + $(U)) * left_vectors;
        let right_at = right_stage + ($(BLOCK) * 4u + $(U)) * right_vectors;
#for g in 0..$(TMV)
        let a$(g) = left_tile[left_at + ((ty + $(g)u * (left_vectors / $(TMV)u)) ^ exchange($(BLOCK), left_vectors))];
#endfor
#for j in 0..$(TNV)
        let b$(j) = right_tile[right_at + ((tx + $(j)u * (right_vectors / $(TNV)u)) ^ exchange($(BLOCK), right_vectors))];
#endfor
#for i in 0..$(TM)
#for j in 0..$(TNV)
        sum_$(i)_$(j) = fma(vec4<f32>(a$(VECTOR_OF_$(i))[$(i)u % 4u]), b$(j), sum_$(i)_$(j));
#endfor
#endfor
      }
