"""Keeps the small part of live runs → fixtures/smollm2/.

usage: smollm2_record.py [--train DIR ...] [--logits DIR ...]

DIRs are outputs of smollm2_train.py (→ train-<name of DIR>.json: result.json plus of every final adapter tensor `finalNorms`, its f64
Euclidean norm, and `finalSketch`) and of smollm2_logits.py (→ logits-<base>.json, already reduced by --summary there).

A sketch is 16 sums of a tensor's numbers with signs that any language can make again: number i (row-major) has in sum j the sign + where
fmix32(j * 2^24 + i) is even (fmix32: MurmurHash3's finalizer on u32, see smollm2_train.py). The signs being random, the mean square of the
differences of two tensors' sums is an estimate of the squared norm of their difference, good to a fifth, without the tensors being kept.
"""
import argparse
import json
from pathlib import Path

import torch

from common import FIXTURES, write_json

from safetensors.torch import load_file

SUMS = 16


def fmix32(h):
    h = (h ^ (h >> 16)) * 0x85EBCA6B & 0xFFFFFFFF
    h = (h ^ (h >> 13)) * 0xC2B2AE35 & 0xFFFFFFFF
    return h ^ (h >> 16)


def sketch(tensor):
    x = tensor.double().reshape(-1)
    i = torch.arange(len(x))
    return [float(f"{(x * (1 - 2 * (fmix32(j * 2**24 + i) & 1))).sum().item():.9g}") for j in range(SUMS)]


p = argparse.ArgumentParser()
p.add_argument("--train", nargs="*", type=Path, default=[])
p.add_argument("--logits", nargs="*", type=Path, default=[])
a = p.parse_args()
for folder in a.train:
    result = json.loads((folder / "result.json").read_text())
    final = load_file(folder / "final" / "adapter_model.safetensors")
    result["finalNorms"] = {k: v.double().norm().item() for k, v in sorted(final.items())}
    result["finalSketch"] = {k: sketch(v) for k, v in sorted(final.items())}
    write_json(FIXTURES / "smollm2" / f"train-{folder.name}.json", result, indent=None)
for folder in a.logits:
    summary = json.loads((folder / "summary.json").read_text())
    write_json(FIXTURES / "smollm2" / f"logits-{summary['base']}.json", summary, indent=None)
