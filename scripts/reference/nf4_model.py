"""bitsandbytes' CPU arithmetic for NF4, FP4 and int8, written out in numpy so that it can be re-implemented bit for bit.

Nothing here runs bitsandbytes: `nf4_vectors.py` asserts that every function below returns the same bits as bitsandbytes 0.50.2 does on
the CPU. All arithmetic is f32 with one rounding an operation (no fused multiply-add is needed anywhere); subnormals are kept.
"""
import numpy as np

f32 = np.float32
NESTED_BLOCK = 256  # block size of the double quantization of quantize_4bit
GRAIN = 32768  # torch.sum uses more than one thread only from here on
ABSMAX_FLOOR = f32(1e-38)  # a subnormal f32


# ---- torch's f32 mean on the CPU -------------------------------------------------------------------------------------------------
def _ceil_log2(n):
    return 1 if n <= 2 else int(n - 1).bit_length()


def _cascade(rows):
    """Sum of `rows` ([n, ...lanes]) over axis 0 with four accumulators, each emptied into the next one every 2^power rows."""
    levels = 4
    power = max(4, _ceil_log2(len(rows)) // levels)
    step = 1 << power
    acc = [np.zeros(rows.shape[1:], f32) for _ in range(levels)]
    i = 0
    while i + step <= len(rows):
        for _ in range(step):
            acc[0] = acc[0] + rows[i]
            i += 1
        for j in range(1, levels):
            acc[j] = acc[j] + acc[j - 1]
            acc[j - 1] = np.zeros(rows.shape[1:], f32)
            if i & ((step - 1) << (j * power)):
                break
    for row in rows[i:]:
        acc[0] = acc[0] + row
    for j in range(1, levels):
        acc[0] = acc[0] + acc[j]
    return acc[0]


def _four_rows(x):
    """Sum over axis 0: rows 4i, 4i+1, 4i+2, 4i+3 go to four separate cascades; the rows left over are added to the first one."""
    full = len(x) // 4 * 4
    parts = _cascade(x[:full].reshape(full // 4, 4, *x.shape[1:]))
    total = parts[0]
    for row in x[full:]:
        total = (total + row).astype(f32)
    for k in range(1, 4):
        total = (total + parts[k]).astype(f32)
    return total


def torch_sum(x, threads=1):
    """`torch.sum` of a contiguous f32 vector on x86 (8 lanes; torch has no AVX-512 kernel for sums)."""
    n = len(x)
    if n < 8:
        return f32(_four_rows(x))
    if n >= GRAIN and threads > 1:  # each thread sums one contiguous chunk; then the sum of `threads` numbers, unused ones being 0
        used = min(threads, -(-n // GRAIN))
        chunk = -(-n // used)
        parts = np.zeros(threads, f32)
        for t in range(used):
            parts[t] = torch_sum(x[t * chunk : (t + 1) * chunk])
        return torch_sum(parts)
    full = n // 8 * 8
    lanes = _four_rows(x[:full].reshape(-1, 8))
    total = f32(0)
    for v in x[full:]:  # first the tail of n mod 8, in order
        total = f32(total + v)
    for v in lanes:  # then the eight lanes, in order
        total = f32(total + v)
    return total


def torch_mean(x, threads=1):
    return f32(torch_sum(x, threads) / f32(len(x)))


# ---- 4-bit -----------------------------------------------------------------------------------------------------------------------
def bounds_of(codebook):
    """(15 midpoints in f32 between the sorted values, code of each interval). Zero occurs twice in FP4: code 0 sorts before code 8."""
    order = np.argsort(codebook, kind="stable")
    values = codebook[order]
    return (values[:-1] + values[1:]) / f32(2), order


def quantize_4bit(x, codebook, blocksize):
    """x any float, flattened; returns (packed u8 [(n+1)/2], absmax f32 [ceil(n/blocksize)]).

    A full block is multiplied by the reciprocal of max(absmax, 1e-38), and its absmax is stored as it is (0 for zeros). The last,
    partial block is divided by max(absmax, 1e-38), and that maximum is what is stored. An odd count is padded by the value 0.
    Code: the number of bounds strictly below the scaled value (then FP4's permutation). The first element is the high nibble."""
    x = x.reshape(-1).astype(f32)
    full = len(x) // blocksize * blocksize
    blocks = x[:full].reshape(-1, blocksize)
    absmax = np.abs(blocks).max(axis=1) if full else np.zeros(0, f32)
    scaled = (blocks * (f32(1) / np.maximum(absmax, ABSMAX_FLOOR))[:, None]).reshape(-1)
    if full < len(x):
        last = np.maximum(np.abs(x[full:]).max(), ABSMAX_FLOOR)
        absmax = np.append(absmax, last)
        scaled = np.append(scaled, x[full:] / last)
    scaled = np.clip(scaled, f32(-1), f32(1))
    if len(scaled) % 2:
        scaled = np.append(scaled, f32(0))
    bounds, order = bounds_of(codebook)
    codes = order[np.searchsorted(bounds, scaled, side="left")].astype(np.uint8)
    return codes[0::2] << 4 | codes[1::2], absmax.astype(f32)


def dequantize_4bit(packed, absmax, codebook, blocksize, n):
    """codebook[code] * absmax in f32; f16 and bf16 outputs are that product rounded once more (ties to even)."""
    codes = np.stack([packed >> 4, packed & 15], axis=1).reshape(-1)[:n]
    return codebook[codes] * np.repeat(absmax, blocksize)[:n]


# ---- int8 with a 256-entry map ---------------------------------------------------------------------------------------------------
def lookup_table(code):
    """65,536 codes: entry i is the number of midpoints 0.5*(code[k] + code[k+1]) strictly below -1 + (2i)/65535."""
    midpoints = f32(0.5) * (code[:-1] + code[1:])
    value = f32(-1) + f32(2) * np.arange(65536, dtype=f32) / f32(65535)
    return np.searchsorted(midpoints, value, side="left").astype(np.uint8)


def quantize_blockwise(x, code, blocksize):
    """int8 blockwise: returns (codes u8 [n], absmax f32). Not the nearest entry: values go through a table of 65,536 bins.

    scaled = clamp(x * (1/absmax), -1, 1); bin = trunc((scaled + 1) * 0.5 * 65535 + 0.5). A block of zeros gets code 0 everywhere
    (which is the most negative entry of the signed map; absmax 0 makes it 0 again). The last block is treated as any other."""
    x = x.reshape(-1).astype(f32)
    table = lookup_table(code)
    codes, absmaxes = [], []
    for start in range(0, len(x), blocksize):
        block = x[start : start + blocksize]
        absmax = np.abs(block).max()
        absmaxes.append(absmax)
        if absmax == 0:
            codes.append(np.zeros(len(block), np.uint8))
            continue
        with np.errstate(over="ignore"):  # a subnormal absmax has an infinite reciprocal; the clamp makes that ±1
            scaled = np.clip(block * (f32(1) / absmax), f32(-1), f32(1))
        codes.append(table[((scaled + f32(1)) * f32(0.5) * f32(65535) + f32(0.5)).astype(np.uint16)])
    return np.concatenate(codes), np.array(absmaxes, f32)


def dequantize_blockwise(codes, absmax, code, blocksize):
    return code[codes] * np.repeat(absmax, blocksize)[: len(codes)]


# ---- double quantization ---------------------------------------------------------------------------------------------------------
def nest(absmax, dynamic_map, blocksize=NESTED_BLOCK, threads=1):
    """(codes u8, nested absmax f32, offset f32): offset is the mean of absmax, absmax - offset is quantized with the signed map."""
    offset = torch_mean(absmax, threads)
    codes, nested = quantize_blockwise(absmax - offset, dynamic_map, blocksize)
    return codes, nested, offset


def unnest(codes, nested, offset, dynamic_map, blocksize=NESTED_BLOCK):
    """map[code] * nested, rounded, then + offset."""
    return dequantize_blockwise(codes, nested, dynamic_map, blocksize) + offset
