const f = Math.fround;

/**
 * The f32 mean of a vector in the order in which PyTorch sums on x86 CPUs (one thread): eight lanes, four interleaved cascades a lane, each
 * with four accumulators that empty into the next one. bitsandbytes' double quantization subtracts this mean, so its bits matter.
 */
export function torchMean(x: Float32Array): number {
  return f(torchSum(x) / x.length);
}

function torchSum(x: Float32Array): number {
  const n = x.length;
  if (n < 8) return fourRows(x, n, 1)[0]!;
  const full = n - (n % 8);
  const lanes = fourRows(x, full / 8, 8);
  let total = 0;
  for (let i = full; i < n; i++) total = f(total + x[i]!);
  for (const v of lanes) total = f(total + v);
  return total;
}

/** Sum of `rows` rows of `width` numbers: rows 4i … 4i+3 go to four cascades; rows left over join the first. */
function fourRows(x: Float32Array, rows: number, width: number): Float32Array {
  const full = rows - (rows % 4);
  const parts = cascade(x, full / 4, 4 * width);
  for (let row = full; row < rows; row++) for (let j = 0; j < width; j++) parts[j] = f(parts[j]! + x[row * width + j]!);
  for (let k = 1; k < 4; k++) for (let j = 0; j < width; j++) parts[j] = f(parts[j]! + parts[k * width + j]!);
  return parts.subarray(0, width);
}

/** Sum over rows with four levels of accumulators; level j empties into level j + 1 every 2^(power·(j+1)) rows. */
function cascade(x: Float32Array, rows: number, width: number): Float32Array {
  const power = Math.max(4, Math.floor(ceilLog2(rows) / 4));
  const step = 2 ** power;
  const levels = [0, 1, 2, 3].map(() => new Float32Array(width));
  const [first] = levels as [Float32Array];
  const add = (row: number) => {
    for (let j = 0; j < width; j++) first[j] = f(first[j]! + x[row * width + j]!);
  };
  let i = 0;
  while (i + step <= rows) {
    for (let k = 0; k < step; k++) add(i++);
    for (let level = 1; level < 4; level++) {
      const from = levels[level - 1]!;
      const to = levels[level]!;
      for (let j = 0; j < width; j++) to[j] = f(to[j]! + from[j]!);
      from.fill(0);
      if (i % (step * 2 ** (power * level)) !== 0) break;
    }
  }
  while (i < rows) add(i++);
  for (let level = 1; level < 4; level++) for (let j = 0; j < width; j++) first[j] = f(first[j]! + levels[level]![j]!);
  return first;
}

function ceilLog2(n: number): number {
  return n <= 2 ? 1 : Math.ceil(Math.log2(n));
}
