"""Vectors of the gguf and safetensors packages → fixtures/formats/. usage: formats_vectors.py

dequantize.json + .bin   blocks of every readable ggml type and gguf.quants.dequantize of them
quantize.json + .bin     f32 values and their F16, BF16 and Q8_0 bytes
small.gguf + .json       a file of GGUFWriter with every metadata type, and what it holds
small.safetensors + .json   a file of safetensors.torch.save with every dtype, and what it holds
smollm2.json             SHA-256 of tensors of the SmolLM2-135M files, as f32 (gguf) or as stored (safetensors)
"""
import hashlib
import json
import logging

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Q
from gguf import GGUFReader, GGUFValueType, GGUFWriter
from safetensors import safe_open
from safetensors.torch import save

from common import FIXTURES, MODELS, SMOLLM2, SMOLLM2_BNB, write_json

OUT = FIXTURES / "formats"
TYPES = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"]
# Offsets of the f16 scales in a block.
SCALES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}


class Pool:
    """Byte strings one after another in a .bin file, found by [offset, length]."""

    def __init__(self):
        self.data = bytearray()

    def add(self, array):
        raw = np.ascontiguousarray(array).tobytes()
        while len(self.data) % 8:
            self.data.append(0)
        place = [len(self.data), len(raw)]
        self.data += raw
        return place


def digest(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def random_blocks(rng, name, blocks):
    """Random bytes; in all but the first quarter of the blocks the scales are ordinary numbers, so that most values are."""
    _, size = gguf.GGML_QUANT_SIZES[Q[name]]
    data = rng.integers(0, 256, (blocks, size), dtype=np.uint8)
    for at in SCALES.get(name, []):
        scale = rng.normal(0, 0.02, blocks).astype(np.float16).view(np.uint8).reshape(blocks, 2)
        data[blocks // 4 :, at : at + 2] = scale[blocks // 4 :]
    return data


def dequantize_vectors():
    rng, pool, cases = np.random.default_rng(20240601), Pool(), []
    for name in TYPES:
        elements, _ = gguf.GGML_QUANT_SIZES[Q[name]]
        blocks = {1: 512, 32: 32, 256: 8}[elements]
        data = random_blocks(rng, name, blocks)
        with np.errstate(all="ignore"):
            values = gguf.dequantize(data.reshape(1, -1), Q[name]).astype(np.float32)
        cases.append({"type": name, "blocks": blocks, "bytes": pool.add(data), "values": pool.add(values)})
    (OUT / "dequantize.bin").write_bytes(pool.data)
    write_json(OUT / "dequantize.json", {"gguf": gguf_version(), "cases": cases})


def quantize_vectors():
    rng, pool = np.random.default_rng(20240602), Pool()
    bits = rng.integers(0, 2**32, 4096, dtype=np.uint64).astype(np.uint32)
    # Every f16 and the f32 values on, just below and just above the middle to its successor (strided to stay small).
    halves = np.arange(0, 65536, 23, dtype=np.uint16).view(np.float16).astype(np.float32)
    halves = halves[np.isfinite(halves)]
    following = np.nextafter(halves.astype(np.float16), np.float16(np.inf)).astype(np.float32)
    middle = ((halves.astype(np.float64) + following) / 2).astype(np.float32)
    middle = middle[np.isfinite(middle)]
    special = np.array([0, -0.0, np.inf, -np.inf, np.nan, 65504, 65519.996, 65520, 65536, 2**-14, 2**-24, 2**-25, 2**-26, 1e-45, 3.4028235e38, -3.4028235e38], np.float32)
    values = np.concatenate([special, bits.view(np.float32), halves, middle, np.nextafter(middle, np.float32(np.inf)), np.nextafter(middle, np.float32(-np.inf))])
    values = values[: len(values) // 32 * 32].astype(np.float32)
    with np.errstate(all="ignore"):
        f16 = gguf.quantize(values, Q.F16)
        bf16 = gguf.quantize(values, Q.BF16)
    ordinary = rng.normal(0, 1, 32 * 64).astype(np.float32) * np.repeat(np.float32(10.0) ** rng.integers(-9, 6, 64).astype(np.float32), 32)
    ordinary[:32] = 0
    ordinary[32:64] = np.arange(-16, 16) * 0.5  # ties of the rounding
    ordinary[63] = 127
    ordinary[64:96] *= np.float32(1e-38) / np.abs(ordinary[64:96]).max()
    ordinary[96:128] *= np.float32(1e-42) / np.abs(ordinary[96:128]).max()  # its reciprocal overflows
    with np.errstate(all="ignore"):
        tiny_kept = np.isfinite(1 / (np.abs(ordinary.reshape(-1, 32)).max(axis=1) / np.float32(127))) | (ordinary.reshape(-1, 32) == 0).all(axis=1)
    ordinary = ordinary.reshape(-1, 32)[tiny_kept].ravel()
    record = {
        "gguf": gguf_version(),
        "halves": {"values": pool.add(values), "f16": pool.add(f16), "bf16": pool.add(bf16)},
        "q8_0": {"values": pool.add(ordinary), "bytes": pool.add(gguf.quantize(ordinary, Q.Q8_0))},
    }
    (OUT / "quantize.bin").write_bytes(pool.data)
    write_json(OUT / "quantize.json", record)


# Key → type, value; 64-bit integers are strings in the JSON.
METADATA = {
    "test.u8": ("UINT8", 255),
    "test.i8": ("INT8", -128),
    "test.u16": ("UINT16", 65535),
    "test.i16": ("INT16", -32768),
    "test.u32": ("UINT32", 2**32 - 1),
    "test.i32": ("INT32", -(2**31)),
    "test.f32": ("FLOAT32", 0.1),
    "test.bool": ("BOOL", True),
    "test.string": ("STRING", "naïve – 文 🙂"),
    "test.u64": ("UINT64", 2**64 - 1),
    "test.i64": ("INT64", -(2**63)),
    "test.f64": ("FLOAT64", 0.1),
    "test.strings": ("ARRAY:STRING", ["", "Ġthe", "🙂", "a" * 300]),
    "test.floats": ("ARRAY:FLOAT32", [0.5, -1.5, 3.0]),
    "test.ints": ("ARRAY:INT32", list(range(-5, 200))),
    "test.bools": ("ARRAY:BOOL", [True, False, True]),
    "test.u64s": ("ARRAY:UINT64", [0, 2**64 - 1]),
}


def small_gguf():
    rng, path = np.random.default_rng(20240603), OUT / "small.gguf"
    writer = GGUFWriter(path, "llama")
    for key, (kind, value) in METADATA.items():
        outer, _, inner = kind.partition(":")
        writer.add_key_value(key, value, GGUFValueType[outer], GGUFValueType[inner] if inner else None)
    writer.add_array("tokenizer.ggml.tokens", [f"<{i}>" for i in range(200)])
    tensors = {"f32": ("F32", (3, 5)), "f16": ("F16", (7,)), "bf16": ("BF16", (2, 2, 3)), "q4_0": ("Q4_0", (2, 32)), "q8_0": ("Q8_0", (3, 64)), "q4_k": ("Q4_K", (2, 256)), "iq4_nl": ("IQ4_NL", (1, 32)), "scalar": ("F32", (1,))}
    for name, (kind, shape) in tensors.items():
        elements, size = gguf.GGML_QUANT_SIZES[Q[kind]]
        count = int(np.prod(shape))
        if kind in ("F32", "F16"):
            writer.add_tensor(name, rng.normal(size=shape).astype(np.float32 if kind == "F32" else np.float16))
        elif kind == "BF16":
            writer.add_tensor(name, gguf.quantize(rng.normal(size=shape).astype(np.float32), Q.BF16), raw_dtype=Q.BF16)
        else:
            blocks = random_blocks(rng, kind, max(count // elements, 4))[-(count // elements) :]
            writer.add_tensor(name, blocks.reshape(*shape[:-1], -1), raw_dtype=Q[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    listed = []
    for tensor in GGUFReader(path).tensors:
        entry = {
            "name": tensor.name,
            "type": tensor.tensor_type.name,
            "shape": [int(n) for n in reversed(tensor.shape)],
            "offset": int(tensor.data_offset),
            "bytes": int(tensor.n_bytes),
            "sha256": digest(tensor.data),
        }
        if tensor.tensor_type.name in TYPES:
            entry["f32"] = digest(gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32))
        listed.append(entry)
    values = {"general.architecture": ("STRING", "llama"), **METADATA, "tokenizer.ggml.tokens": ("ARRAY:STRING", [f"<{i}>" for i in range(200)])}
    shown = {k: [t, v if "64" not in t or "FLOAT" in t else [str(x) for x in v] if isinstance(v, list) else str(v)] for k, (t, v) in values.items()}
    write_json(OUT / "small.gguf.json", {"gguf": gguf_version(), "metadata": shown, "tensors": listed})


def small_safetensors():
    torch.manual_seed(20240604)
    dtypes = {
        "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64, "I32": torch.int32,
        "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "U32": torch.uint32, "U16": torch.uint16, "U64": torch.uint64,
        "BOOL": torch.bool, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    }  # fmt: skip
    tensors = {}
    for i, (name, dtype) in enumerate(dtypes.items()):
        width = torch.empty(0, dtype=dtype).element_size()
        shape = [(3, 5), (7,), (2, 1, 3)][i % 3]
        raw = torch.randint(0, 2 if dtype is torch.bool else 256, (int(np.prod(shape)) * width,), dtype=torch.uint8)
        tensors[f"model.{name.lower()}.weight"] = raw.view(dtype).reshape(shape)
    tensors["scalar"] = torch.tensor(1.5)
    tensors["empty"] = torch.empty(0, 4, dtype=torch.bfloat16)
    tensors["naïve 🙂 \"quoted\"\n"] = torch.arange(3, dtype=torch.float32)
    tensors["10"] = torch.arange(2, dtype=torch.float32)
    raw = save(tensors, metadata={"format": "pt"})
    (OUT / "small.safetensors").write_bytes(raw)
    start = 8 + int.from_bytes(raw[:8], "little")
    listed = []
    for name, entry in json.loads(raw[8:start]).items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        listed.append({"name": name, "dtype": entry["dtype"], "shape": entry["shape"], "offset": start + begin, "bytes": end - begin, "sha256": hashlib.sha256(raw[start + begin : start + end]).hexdigest()})
    import safetensors

    write_json(OUT / "small.safetensors.json", {"safetensors": safetensors.__version__, "metadata": {"format": "pt"}, "tensors": listed})


def smollm2():
    """Of each type in the GGUF the first two tensors and the last; some tensors of the two checkpoints."""
    record = {"gguf": {}, "safetensors": {}, "bnb": {}}
    by_type = {}
    for tensor in GGUFReader(MODELS / "SmolLM2-135M-Instruct.Q4_1.gguf").tensors:
        by_type.setdefault(tensor.tensor_type.name, []).append(tensor)
    for kind, tensors in by_type.items():
        for tensor in {t.name: t for t in (*tensors[:2], tensors[-1])}.values():
            values = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
            shape = [int(n) for n in reversed(tensor.shape)]
            record["gguf"][tensor.name] = {"type": kind, "shape": shape, "f32": digest(values)}
    for key, folder in {"safetensors": SMOLLM2, "bnb": SMOLLM2_BNB}.items():
        with safe_open(folder / "model.safetensors", "pt") as file:
            names = sorted(file.keys())
            for name in (*names[:3], *names[:: len(names) // 5], names[-1]):
                tensor = file.get_tensor(name)
                raw = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
                record[key][name] = {"shape": list(tensor.shape), "sha256": digest(raw)}
    write_json(OUT / "smollm2.json", record)


def gguf_version():
    import importlib.metadata

    return importlib.metadata.version("gguf")


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    OUT.mkdir(parents=True, exist_ok=True)
    dequantize_vectors()
    quantize_vectors()
    small_gguf()
    small_safetensors()
    smollm2()
