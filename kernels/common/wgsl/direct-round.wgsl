// Four inner indices: column u of block a0 … times column u of block b0 …. Part of `main` of direct.wgsl.
#for u in 0..4
#for i in 0..$(TM)
#for j in 0..$(TNV)
      sum_$(i)_$(j) = fma(vec4<f32>(a$(VECTOR_OF_$(i))[$(u)][$(i)u % 4u]), b$(j)[$(u)], sum_$(i)_$(j));
#endfor
#endfor
#endfor
