// The walk along the inner axis from $(START) to $(END), vectors through $(LEFT) and $(RIGHT). Part of `main` of matrix-tiles.wgsl.
  {
    let steps = (max($(END), $(START)) - $(START) + $(BK)u - 1u) / $(BK)u;
#for l in 0..$(LEFT_LOADS)
    var next_left_$(l): vec4<u32>;
#endfor
#for l in 0..$(RIGHT_LOADS)
    var next_right_$(l): vec4<u32>;
#endfor
    for (var step = 0u; step <= steps; step++) {
      if step < steps {
        let k0 = $(START) + step * $(BK)u;
#for l in 0..$(LEFT_LOADS)
        {
          let p = left_place(id + $(l)u * threads);
          next_left_$(l) = $(LEFT)(m0 + p.x, k0 + p.y, $(END));
        }
#endfor
#for l in 0..$(RIGHT_LOADS)
        {
          let p = right_place(id + $(l)u * threads);
          next_right_$(l) = $(RIGHT)(n0 + p.x, k0 + p.y, $(END));
        }
#endfor
      }
      if step > 0u {
#if STAGES == 2
        let left_stage = ((step + 1u) & 1u) * left_size;
        let right_stage = ((step + 1u) & 1u) * right_size;
#else
        let left_stage = 0u;
        let right_stage = 0u;
#endif
#for k in 0..$(BK_MATRICES)
        {
#for j in 0..$(JN)
#if RIGHT_INNER
          let right_$(j) = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, col_major>(&right_tile, (right_stage + (n1 + $(j)u * 16u) * right_row + $(k)u * 2u) * $(TILE_UNIT)u, right_row * $(TILE_UNIT)u);
#else
          let right_$(j) = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, row_major>(&right_tile, (right_stage + $(k)u * 16u * right_row + (n1 + $(j)u * 16u) / 8u) * $(TILE_UNIT)u, right_row * $(TILE_UNIT)u);
#endif
#endfor
#for i in 0..$(IM)
          {
#if LEFT_INNER
            let left_now = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&left_tile, (left_stage + (m1 + $(i)u * 16u) * left_row + $(k)u * 2u) * $(TILE_UNIT)u, left_row * $(TILE_UNIT)u);
#else
            let left_now = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, col_major>(&left_tile, (left_stage + $(k)u * 16u * left_row + (m1 + $(i)u * 16u) / 8u) * $(TILE_UNIT)u, left_row * $(TILE_UNIT)u);
#endif
#for j in 0..$(JN)
            sum_$(i)_$(j) = subgroupMatrixMultiplyAccumulate(left_now, right_$(j), sum_$(i)_$(j));
#endfor
          }
#endfor
        }
#endfor
      }
#if STAGES == 2
#define STAGE_NOW (step & 1u)
#else
#define STAGE_NOW 0u
      workgroupBarrier();
#endif
      if step < steps {
#for l in 0..$(LEFT_LOADS)
        left_tile_put($(STAGE_NOW) * left_size + left_slot(id + $(l)u * threads), next_left_$(l));
#endfor
#for l in 0..$(RIGHT_LOADS)
        right_tile_put($(STAGE_NOW) * right_size + right_slot(id + $(l)u * threads), next_right_$(l));
#endfor
      }
      workgroupBarrier();
    }
  }
