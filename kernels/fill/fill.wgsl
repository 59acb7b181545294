// u0: the code of the value. y is stored by codes.
#include "common/wgsl/elementwise.wgsl"

fn element(at: At) -> y_t {
  return P.u0;
}
