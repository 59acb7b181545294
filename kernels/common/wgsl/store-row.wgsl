// Stores the row of y that starts at `at`, from `value(at, column)`, which reads nothing that another invocation writes.
fn store_row(at: At, lane: u32) {
#if PACK == 2
  for (var column = lane * 2u; column < P.shape.w; column += row_width * 2u) {
    let v = value(at, column);
    if column + 1u < P.shape.w {
      y_store2(at.y + column, v, value(at, column + 1u));
    } else {
      y_store(at.y + column, v);
    }
  }
#else
  for (var column = lane; column < P.shape.w; column += row_width) {
    y_store(at.y + column * P.y_strides.w, value(at, column));
  }
#endif
}
