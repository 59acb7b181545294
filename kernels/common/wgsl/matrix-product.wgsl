// The walk along the inner axis from $(START) to $(END), vectors through $(LEFT) and $(RIGHT). Part of `main` of matrix-tiles.wgsl.
  {
    let steps = (max($(END), $(START)) - $(START) + 31u) / 32u;
    var next_left: array<vec4<u32>, loads>;
    var next_right: array<vec4<u32>, loads>;
    for (var step = 0u; step <= steps; step++) {
      if step < steps {
        let k0 = $(START) + step * 32u;
        for (var l = 0u; l < loads; l++) {
          let p = left_place(id + l * threads);
          next_left[l] = $(LEFT)(m0 + p.x, k0 + p.y, $(END));
          let q = right_place(id + l * threads);
          next_right[l] = $(RIGHT)(n0 + q.x, k0 + q.y, $(END));
        }
      }
      if step > 0u {
#for k in 0..2
        {
#for j in 0..2
#if RIGHT_INNER
          let right_$(j) = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, col_major>(&right_tile, ((n1 + $(j)u * 16u) * right_row + $(k)u * 2u) * $(OFFSET_UNIT)u, right_row * $(STRIDE_UNIT)u);
#else
          let right_$(j) = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, row_major>(&right_tile, ($(k)u * 16u * right_row + (n1 + $(j)u * 16u) / 8u) * $(OFFSET_UNIT)u, right_row * $(STRIDE_UNIT)u);
#endif
#endfor
#for i in 0..4
          {
#if LEFT_INNER
            let left_now = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&left_tile, ((m1 + $(i)u * 16u) * left_row + $(k)u * 2u) * $(OFFSET_UNIT)u, left_row * $(STRIDE_UNIT)u);
#else
            let left_now = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, col_major>(&left_tile, ($(k)u * 16u * left_row + (m1 + $(i)u * 16u) / 8u) * $(OFFSET_UNIT)u, left_row * $(STRIDE_UNIT)u);
#endif
#for j in 0..2
            sum_$(i)_$(j) = subgroupMatrixMultiplyAccumulate(left_now, right_$(j), sum_$(i)_$(j));
#endfor
          }
#endfor
        }
#endfor
      }
      workgroupBarrier();
      if step < steps {
        for (var l = 0u; l < loads; l++) {
          left_tile[left_slot(id + l * threads)] = next_left[l];
          right_tile[right_slot(id + l * threads)] = next_right[l];
        }
      }
      workgroupBarrier();
    }
  }
