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
#if STAGES == 2
#define STAGE_NOW step & 1u
#else
#define STAGE_NOW 0u
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
#if STAGES == 2
      let left_stage = ((step + 1u) & 1u) * left_size;
      let right_stage = ((step + 1u) & 1u) * right_size;
#else
      let left_stage = 0u;
      let right_stage = 0u;
#endif
#if UNROLL
#for block in 0..$(BK_BLOCKS)
#for u in 0..4
#include "common/wgsl/tiles-step.wgsl" (BLOCK = $(block)u, U = $(u)u)
#endfor
#endfor
#else
      for (var block = 0u; block < inner_blocks; block++) {
        for (var u = 0u; u < 4u; u++) {
#include "common/wgsl/tiles-step.wgsl" (BLOCK = block, U = u)
        }
      }
#endif
    }
#if STAGES == 1
    workgroupBarrier();
#endif
    if step < all_steps {
#for l in 0..$(LOADS)
      if id + $(l)u * $(THREADS)u < blocks {
        keep(id + $(l)u * $(THREADS)u, $(STAGE_NOW), next_$(l));
      }
#endfor
    }
    workgroupBarrier();
  }
