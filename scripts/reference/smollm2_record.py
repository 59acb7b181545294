"""Keeps the small part of live runs → fixtures/smollm2/.

usage: smollm2_record.py [--train DIR ...] [--logits DIR ...]

DIRs are outputs of smollm2_train.py (→ train-<name of DIR>.json: result.json plus `finalNorms`: f64 Euclidean norm of every final adapter
tensor, `finalSample`: its first 4 values) and of smollm2_logits.py (→ logits-<base>.json, already reduced by --summary there).
"""
import argparse
import json
from pathlib import Path

from common import FIXTURES, write_json

from safetensors.torch import load_file

p = argparse.ArgumentParser()
p.add_argument("--train", nargs="*", type=Path, default=[])
p.add_argument("--logits", nargs="*", type=Path, default=[])
a = p.parse_args()
for folder in a.train:
    result = json.loads((folder / "result.json").read_text())
    final = load_file(folder / "final" / "adapter_model.safetensors")
    result["finalNorms"] = {k: v.double().norm().item() for k, v in sorted(final.items()) if ".layers.0." in k or ".layers.29." in k}
    result["finalSample"] = {k: v.reshape(-1)[:4].tolist() for k, v in sorted(final.items()) if ".layers.0." in k}
    write_json(FIXTURES / "smollm2" / f"train-{folder.name}.json", result)
for folder in a.logits:
    summary = json.loads((folder / "summary.json").read_text())
    write_json(FIXTURES / "smollm2" / f"logits-{summary['base']}.json", summary, indent=None)
