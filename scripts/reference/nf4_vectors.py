"""Vectors of bitsandbytes' quantizers on the CPU → fixtures/nf4/. usage: nf4_vectors.py [--no-smollm2]

Writes codebooks.json, vectors.json + vectors.safetensors, mean.json + mean.safetensors, smollm2-hashes.json; each case is also computed by
nf4_model.py and must agree bit for bit.
"""
import math
import sys

import numpy as np

from common import FIXTURES, SMOLLM2, SMOLLM2_BNB, bits, sha256, versions, write_json, write_tensors
import nf4_model as model

import bitsandbytes.functional as bnb
import torch
from safetensors import safe_open

OUT = FIXTURES / "nf4"
BLOCKSIZES = [32, 64, 128, 256, 512, 1024, 2048, 4096]
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
CODEBOOKS = {q: bnb.get_4bit_type(q, device="cpu") for q in ("nf4", "fp4")}
MAPS = {"dynamic": bnb.create_dynamic_map(signed=True), "dynamic-unsigned": bnb.create_dynamic_map(signed=False)}


def inputs():
    """Every input by name. f32 unless it says otherwise."""
    g = torch.Generator().manual_seed(20240607)
    normal = lambda n, scale=1.0: torch.randn(n, generator=g) * scale
    around = []  # every decision bound with its neighbours, and every code value, as they are (the block's absmax is 1)
    for book in CODEBOOKS.values():
        bounds, _ = model.bounds_of(book.numpy())
        for edge in (*bounds, *book.numpy()):
            around += [edge, np.nextafter(edge, np.float32(-2)), np.nextafter(edge, np.float32(2))]
    around = torch.tensor(np.clip(np.array(around, np.float32), -1, 1))
    table = model.lookup_table(MAPS["dynamic"].numpy())  # values on both sides of every change of code of the int8 table
    edges = ((np.nonzero(np.diff(table.astype(int)))[0] + 0.5) / 65535 * 2 - 1).astype(np.float32)
    bins = torch.tensor(np.concatenate([[1], *[np.nextafter(edges, np.float32(e)) for e in (-2, 2)], edges]).astype(np.float32))
    gaps = normal(700)
    gaps[64:192] = 0  # whole blocks of zeros for the small block sizes
    gaps[192:256] = -0.0
    result = {
        **{f"normal-{n}": normal(n) for n in (1, 31, 63, 64, 65, 127, 4097)},
        "sin": torch.tensor([math.sin(0.37 * i) for i in range(1000)], dtype=torch.float32),
        "constant": torch.full((300,), 0.4),
        "constant-negative": torch.full((160,), -3.0),
        "zero": torch.zeros(200),
        "gaps": gaps,
        "huge": normal(500) * 1e30,
        "tiny": normal(500) * 1e-30,
        "subnormal": normal(320) * 1e-40,
        "bounds": torch.cat([around, -around]),
        "bins": bins,
        "varied": normal(4200) * (1 + torch.arange(4200) // 64 % 13) * 0.01,
        "normal-bf16": normal(900).bfloat16(),
        "normal-f16": normal(900).half(),
    }
    return result


def positive_zero(x):
    """-0 as 0: the sign of a zero depends on the code path inside bitsandbytes."""
    return torch.where(x == 0, torch.zeros_like(x), x)


def same(ours, theirs, what):
    a, b = torch.as_tensor(np.ascontiguousarray(ours)), theirs.reshape(-1)
    if a.dtype.is_floating_point:
        a, b = positive_zero(a).view(torch.int32), positive_zero(b).view(torch.int32)
    if not torch.equal(a.reshape(-1), b):
        raise AssertionError(f"{what}: the model in nf4_model.py and bitsandbytes differ")


def dequantized(record, tensors, key, run, keep):
    """Hashes (their first 16 hex digits) of the three output types, and the arrays themselves for `keep`."""
    record["sha256"] = {}
    for name, dtype in DTYPES.items():
        value = positive_zero(run(dtype).reshape(-1))
        record["sha256"][name] = sha256(value)[:16]
        if keep:
            tensors[f"{key}.dequantized.{name}"] = value


def four_bit(name, x, quant, blocksize, nested, tensors):
    key = f"{quant}.{blocksize}.{'nested' if nested else 'plain'}.{name}"
    packed, state = bnb.quantize_4bit(x, blocksize=blocksize, compress_statistics=nested, quant_type=quant)
    record = {"key": key, "input": name, "quantType": quant, "blocksize": blocksize, "nested": nested, "count": x.numel()}
    tensors[f"{key}.codes"] = packed.reshape(-1)
    tensors[f"{key}.absmax"] = state.absmax
    book = CODEBOOKS[quant].numpy()
    codes, absmax = model.quantize_4bit(x.float().numpy(), book, blocksize)
    same(codes, packed, key)
    if nested:
        tensors[f"{key}.nestedAbsmax"] = state.state2.absmax
        record["offset"], record["offsetBits"] = state.offset.item(), bits(state.offset)
        q, inner, offset = model.nest(absmax, MAPS["dynamic"].numpy())
        for ours, theirs in ((q, state.absmax), (inner, state.state2.absmax), (offset, state.offset)):
            same(ours, theirs, key)
        absmax = model.unnest(q, inner, offset, MAPS["dynamic"].numpy())
    else:
        same(absmax, state.absmax, key)

    def run(dtype):
        state.dtype = dtype
        return bnb.dequantize_4bit(packed, state)

    same(model.dequantize_4bit(codes, absmax, book, blocksize, x.numel()), run(torch.float32), key)
    dequantized(record, tensors, key, run, keep=blocksize == 64 and x.numel() <= 1000)
    return record


def eight_bit(name, x, mapname, blocksize, nested, tensors):
    key = f"{mapname}.{blocksize}.{'nested' if nested else 'plain'}.{name}"
    code = MAPS[mapname]
    packed, state = bnb.quantize_blockwise(x, code=code, blocksize=blocksize, nested=nested)
    record = {"key": key, "input": name, "quantType": mapname, "blocksize": blocksize, "nested": nested, "count": x.numel()}
    tensors[f"{key}.codes"] = packed.reshape(-1)
    tensors[f"{key}.absmax"] = state.absmax
    codes, absmax = model.quantize_blockwise(x.float().numpy(), code.numpy(), blocksize)
    same(codes, packed, key)
    if nested:
        tensors[f"{key}.nestedAbsmax"] = state.state2.absmax
        record["offset"], record["offsetBits"] = state.offset.item(), bits(state.offset)
        record["nestedBlocksize"] = blocksize  # unlike quantize_4bit, which always nests by 256
        q, inner, offset = model.nest(absmax, MAPS["dynamic"].numpy(), blocksize)
        for ours, theirs in ((q, state.absmax), (inner, state.state2.absmax), (offset, state.offset)):
            same(ours, theirs, key)
        absmax = model.unnest(q, inner, offset, MAPS["dynamic"].numpy(), blocksize)
    else:
        same(absmax, state.absmax, key)

    def run(dtype):
        state.dtype = dtype
        return bnb.dequantize_blockwise(packed, state)

    same(model.dequantize_blockwise(codes, absmax, code.numpy(), blocksize), run(torch.float32), key)
    dequantized(record, tensors, key, run, keep=blocksize == 64 and x.numel() <= 1000)
    return record


def codebooks():
    def table(t):
        return {"values": t.tolist(), "bits": [bits(v) for v in t]}

    out = {"versions": versions()}
    for name, book in CODEBOOKS.items():
        bounds, order = model.bounds_of(book.numpy())
        out[name] = {**table(book), "bounds": table(torch.tensor(bounds)), "codeOfInterval": order.tolist()}
    for name, code in MAPS.items():
        lut = model.lookup_table(code.numpy())
        first = np.searchsorted(lut, np.arange(256), side="left").tolist()  # a code no bin maps to repeats the next code's first bin
        out[name] = {**table(code), "firstBin": first, "lookupSha256": sha256(torch.tensor(lut))}
    write_json(OUT / "codebooks.json", out, indent=None)


def vectors():
    tensors, records = {}, []
    for name, x in inputs().items():
        tensors[f"input.{name}"] = x
        for blocksize in BLOCKSIZES:
            for nested in (False, True):
                records += [four_bit(name, x, quant, blocksize, nested, tensors) for quant in CODEBOOKS]
                if name in ("bounds",) or (x.numel() > 1000 and blocksize not in (64, 256, 4096)):
                    continue  # one byte an element: keep the file small
                records.append(eight_bit(name, x, "dynamic", blocksize, nested, tensors))
                if not nested and blocksize in (64, 256):
                    records.append(eight_bit(name, x.abs(), "dynamic-unsigned", blocksize, nested, tensors))
    write_tensors(OUT / "vectors.safetensors", tensors)
    write_json(OUT / "vectors.json", {"versions": versions(), "cases": records}, indent=None)
    print(f"{len(records)} cases")


def means():
    """torch.mean of f32 vectors of many lengths: x[i] = (i * 2654435761 mod 2^32) / 2^32 rounded to f32."""
    lengths = [*range(1, 140), 255, 256, 257, 511, 1000, 1023, 1728, 2047, 3456, 4095, 4096, 4097, 5184, 8191, 10007, 13824, 16385, 19999, 20000, 32767, 32768]
    index = torch.arange(max(lengths), dtype=torch.int64)
    x = ((index * 2654435761) % 2**32).double().div(2**32).float()
    out = []
    for n in lengths:
        mean = x[:n].mean()
        same(model.torch_mean(x[:n].numpy()), mean, f"mean of {n}")
        out.append([n, bits(mean)])
    write_json(OUT / "mean.json", {"versions": versions(), "formula": "x[i] = f32(((i * 2654435761) mod 2^32) / 2^32)", "means": out}, indent=None)


def smollm2():
    """One record a quantized weight of SmolLM2-135M-Instruct: NF4, blocks of 64, double quantization, from the bf16 folder."""
    records, agree = {}, True
    with safe_open(SMOLLM2 / "model.safetensors", "pt") as f, safe_open(SMOLLM2_BNB / "model.safetensors", "pt") as stored:
        for name in sorted(k for k in f.keys() if k.endswith("_proj.weight")):
            weight = f.get_tensor(name)
            packed, state = bnb.quantize_4bit(weight, blocksize=64, compress_statistics=True, quant_type="nf4")
            codes, absmax = model.quantize_4bit(weight.float().numpy(), CODEBOOKS["nf4"].numpy(), 64)
            q, inner, offset = model.nest(absmax, MAPS["dynamic"].numpy())
            for ours, theirs in ((codes, packed), (q, state.absmax), (inner, state.state2.absmax), (offset, state.offset)):
                same(ours, theirs, name)
            agree &= torch.equal(packed, stored.get_tensor(name)) and torch.equal(state.absmax, stored.get_tensor(f"{name}.absmax"))
            agree &= torch.equal(state.state2.absmax, stored.get_tensor(f"{name}.nested_absmax"))
            hashes = {}
            for label, dtype in DTYPES.items():
                state.dtype = dtype
                hashes[label] = sha256(positive_zero(bnb.dequantize_4bit(packed, state)))
            records[name] = {
                "shape": list(weight.shape),
                "input": sha256(weight),
                "codes": sha256(packed),
                "absmax": sha256(state.absmax),
                "nestedAbsmax": sha256(state.state2.absmax),
                "offset": state.offset.item(),
                "offsetBits": bits(state.offset),
                "dequantized": hashes,
            }
    write_json(OUT / "smollm2-hashes.json", {"versions": versions(), "blocksize": 64, "quantType": "nf4", "nested": True, "sameAsCheckpoint": agree, "weights": records}, indent=None)
    print(f"{len(records)} weights; equal to the bitsandbytes checkpoint: {agree}")


codebooks()
means()
vectors()
if "--no-smollm2" not in sys.argv:
    smollm2()
