// y[i…, :] = table[ids[i…], :], zeros where an id is out of range. A row is `row` elements wide; `gather_dense` moves 8 at a time.
#include "../common/cuda/common.cuh"

KERNEL gather_dense(const void* table, const i32* ids, void* y, i64 count, i64 rows, i64 width, i64 tableStride, i32 idsSigned, i32 from, i32 to) {
  afterPrevious();
  const i64 vectors = width >> 3;
  for (i64 i = globalThread(); i < count * vectors; i += globalThreads()) {
    const i64 row = i / vectors, col = (i - row * vectors) * 8;
    const i64 id = idsSigned ? i64(ids[row]) : i64(u32(ids[row]));
    float v[8] = {};
    if (id >= 0 && id < rows) load8(table, from, id * tableStride + col, v);
    store8(y, to, row * width + col, v);
  }
}

KERNEL gather_strided(const void* table, const i32* ids, void* y, Shape outer, Strides sIds, Strides yOuter, Shape row, Strides tableRow, Strides yRow, i64 rows, i64 tableStride, i32 idsSigned, i32 from, i32 to) {
  afterPrevious();
  for (i64 i = globalThread(); i < outer.count * row.count; i += globalThreads()) {
    const i64 o = i / row.count, r = i - o * row.count;
    const i32 raw = ids[offsetOf(outer, sIds, o)];
    const i64 id = idsSigned ? i64(raw) : i64(u32(raw));
    const bool inside = id >= 0 && id < rows;
    const i64 source = inside ? id * tableStride + offsetOf(row, tableRow, r) : 0;
    const i64 target = offsetOf(outer, yOuter, o) + offsetOf(row, yRow, r);
    if (from <= BF16) {
      const float v = inside ? loadFloat(table, from, source) : 0.f;
      if (to <= BF16) storeFloat(y, to, target, v);
      else storeInt(y, to, target, saturate(double(v), to));
    } else {
      const i64 v = inside ? loadInt(table, from, source) : 0;
      if (to <= BF16) storeFloat(y, to, target, float(v));
      else storeInt(y, to, target, v);
    }
  }
}
