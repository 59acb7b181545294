"""Loads what lowrank wrote with the real clients and writes their f32 logits.

usage: check_outputs.py --prompts FILE.json --case OUTPUT.safetensors MODEL [ADAPTER] [--case ...]

MODEL: a Hugging Face folder (dense weights of any dtype, computed in f32) or a bitsandbytes 4-bit checkpoint (its config.json has a
quantization_config; loaded by transformers with bitsandbytes' own Linear4bit, computing in f32). ADAPTER: a PEFT folder put on it.
--prompts: JSON [{"ids": [...], "positions": [...]}, ...]; positions default to the last one.
Output tensors: `<index>` f32 [positions, vocabulary].
Prints a line of JSON {missing, unexpected, adapterKeys, dtype, quantized, tied} a case and exits with 1 when any key is missing or unexpected.
"""
import argparse
import json
import sys
import warnings
from pathlib import Path

from common import write_tensors
import smollm2

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM


def load_base(folder):
    """(model in f32, report). Missing, unexpected and mismatched keys are reported, not only warned about."""
    config = json.loads((folder / "config.json").read_text())
    quantized = "quantization_config" in config
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, **({"device_map": "cpu"} if quantized else {"dtype": torch.float32}))
    report = {
        "missing": sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]])),
        "unexpected": sorted(map(str, [*info["unexpected_keys"], *info.get("error_msgs", [])])),
        "quantized": quantized,
        "dtype": config.get("dtype", config.get("torch_dtype")),
        "tied": model.config.tie_word_embeddings,
    }
    if quantized:
        model = smollm2.live_bnb(folder)
    return model, report


def load_adapter(model, folder, report):
    """PEFT only warns about adapter keys that it lacks or does not use: compare them here, shape by shape."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = PeftModel.from_pretrained(model, folder)
    report["warnings"] = [str(w.message)[:300] for w in caught if "adapter" in str(w.message)]
    file = {k: tuple(v.shape) for k, v in load_file(folder / "adapter_model.safetensors").items()}
    own = {k: tuple(v.shape) for k, v in get_peft_model_state_dict(model).items()}
    report["adapterKeys"] = len(file)
    report["missing"] += sorted(k for k in own if own[k] != file.get(k))
    report["unexpected"] += sorted(k for k in file if file[k] != own.get(k))
    return model


def check(prompts, output, folder, adapter=None):
    """Writes the logits of one case; gives its report."""
    model, report = load_base(folder)
    if adapter:
        model = load_adapter(model, adapter, report)
    smollm2.evaluating(model)
    logits = lambda prompt: model(torch.tensor([prompt["ids"]])).logits[0][prompt.get("positions", [-1])].float()
    write_tensors(output, {str(i): logits(prompt) for i, prompt in enumerate(prompts)})
    return report


@torch.no_grad()
def main():
    p = argparse.ArgumentParser()
    p.add_argument("--prompts", required=True, type=Path)
    p.add_argument("--case", required=True, type=Path, nargs="+", action="append", metavar=("OUTPUT MODEL", "ADAPTER"))
    a = p.parse_args()
    prompts = json.loads(a.prompts.read_text())
    reports = [check(prompts, *case) for case in a.case]
    for report in reports:
        print(json.dumps(report))
    sys.exit(1 if any(r["missing"] or r["unexpected"] for r in reports) else 0)


main()
