// 16 rows of this subgroup by 32 columns: $(INTO) = matrices $(LEFT)_d times the transpose of operand $(RIGHT) from key0 on. Part of `main`.
// STAGED: the operand's rows lie in workgroup memory.
    {
#for n in 0..2
      var score_$(n) = subgroup_matrix_result<f32, 16, 16>();
#for d in 0..$(DK)
      {
#if STAGED
        let column = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, col_major>(&$(RIGHT)_tile, ($(n)u * 16u * (row_vectors + 1u) + $(d)u * 2u) * $(OFFSET_UNIT)u, (row_vectors + 1u) * $(STRIDE_UNIT)u);
#else
        let column = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, col_major>(&$($(RIGHT)_BUFFER), (($(RIGHT)_base + (key0 + $(n)u * 16u) * P.$(RIGHT)_strides.y + $(d)u * 16u) / 8u) * $(OFFSET_UNIT)u, (P.$(RIGHT)_strides.y / 8u) * $(STRIDE_UNIT)u);
#endif
        score_$(n) = subgroupMatrixMultiplyAccumulate($(LEFT)_$(d), column, score_$(n));
      }
#endfor
      subgroupMatrixStore<row_major>(&$(INTO), subgroup * 576u + $(n)u * 16u, score_$(n), 36u);
#endfor
    }
