// The 16 rows of each subgroup of operand $(N), from row $(FROM) of the workgroup on, as matrices $(N)_d: 32 rows at a time pass through
// $(THROUGH). Part of `main`.
#for d in 0..$(DK)
  var $(N)_$(d) = subgroup_matrix_left<f16, 16, 16>();
#endfor
#for half in 0..$(ROW_TILES)
  workgroupBarrier();
#include "common/wgsl/attention-tile.wgsl" (N = $(N), FROM = $(FROM) + $(half)u * 32u, INTO = $(THROUGH))
  workgroupBarrier();
  if subgroup / 2u == $(half)u {
#for d in 0..$(DK)
    $(N)_$(d) = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&$(THROUGH), ((subgroup % 2u) * 16u * row_step + $(d)u * 2u) * $(TILE_UNIT)u, row_step * $(TILE_UNIT)u);
#endfor
  }
#endfor
  workgroupBarrier();
