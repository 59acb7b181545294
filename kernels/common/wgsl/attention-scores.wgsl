// 16 rows of this subgroup by 32 columns: $(INTO) = matrices $(LEFT)_d times the transpose of the 32 rows in $(RIGHT)_tile. Part of `main`.
    {
#for n in 0..2
      var score_$(n) = subgroup_matrix_result<f32, 16, 16>();
#for d in 0..$(DK)
      {
        let column = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, col_major>(&$(RIGHT)_tile, ($(n)u * 16u * row_step + $(d)u * 2u) * $(TILE_UNIT)u, row_step * $(TILE_UNIT)u);
        score_$(n) = subgroupMatrixMultiplyAccumulate($(LEFT)_$(d), column, score_$(n));
      }
#endfor
      subgroupMatrixStore<row_major>(&$(INTO), subgroup * 576u + $(n)u * 16u, score_$(n), 36u);
#endfor
    }
