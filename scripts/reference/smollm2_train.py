"""LoRA training of SmolLM2-135M-Instruct on GSM8K by PEFT, f32, AdamW without decay, constant learning rate.

usage: smollm2_train.py --output DIR [--base dense|gguf|bnb|bnb-live] [--steps 20] [--batch 1] [--max-length 256] [--lr 5e-4]
       [--accumulate 1] [--initial DIR|formula] [--seed 0] [--first-row 0] [--eval-rows 0] [--attention sdpa|eager] [--no-train]

Rows are taken in file order, answers only (see smollm2.gsm8k_samples). Writes DIR/initial (PEFT folder), DIR/final (PEFT folder) and
DIR/result.json: {base, steps, batch, ..., losses, tokens, gradNorms, evalBefore, evalAfter, evalTokens, seconds}. The loss of a step is the sum
over its tokens that count, divided once by their number, whatever the accumulation. --eval-rows N: mean loss a token over the last N rows.

--initial formula: B zero, and A from a hash that any language can repeat, so that recorded losses need no stored adapter. With the A tensors
sorted by their file keys, element i (row-major) of tensor t is f32((fmix32(t * 2^20 + i) / 2^31 - 1) / sqrt(columns)), in f64 until the last
rounding; fmix32 is MurmurHash3's finalizer on u32.
"""
import argparse
import time
from pathlib import Path

from common import versions, write_json
import smollm2

import torch
from peft import LoraConfig, PeftModel, get_peft_model


def arguments():
    p = argparse.ArgumentParser()
    p.add_argument("--output", required=True, type=Path)
    p.add_argument("--base", default="dense", choices=["dense", "gguf", "bnb", "bnb-live"])
    p.add_argument("--steps", type=int, default=20)
    p.add_argument("--batch", type=int, default=1)
    p.add_argument("--max-length", type=int, default=256)
    p.add_argument("--lr", type=float, default=5e-4)
    p.add_argument("--accumulate", type=int, default=1)
    p.add_argument("--initial", help="start from this adapter folder, or from 'formula', instead of PEFT's own initialization")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--first-row", type=int, default=0)
    p.add_argument("--eval-rows", type=int, default=0)
    p.add_argument("--attention", default="sdpa", choices=["sdpa", "eager"], help="eager against sdpa shows how far two correct runs part")
    p.add_argument("--no-train", action="store_true", help="write the initial adapter only")
    return p.parse_args()


def fmix32(h):
    """MurmurHash3's finalizer on u32 values held in i64."""
    h = (h ^ (h >> 16)) * 0x85EBCA6B & 0xFFFFFFFF
    h = (h ^ (h >> 13)) * 0xC2B2AE35 & 0xFFFFFFFF
    return h ^ (h >> 16)


@torch.no_grad()
def fill_by_formula(model):
    names = sorted(n for n, _ in model.named_parameters() if ".lora_A." in n)
    parameters = dict(model.named_parameters())
    for t, name in enumerate(names):
        p = parameters[name]
        unit = fmix32(t * 2**20 + torch.arange(p.numel())).double() / 2**31 - 1
        p.copy_((unit / p.shape[1] ** 0.5).float().view(p.shape))


def save(model, folder):
    model.peft_config["default"].base_model_name_or_path = "SmolLM2-135M-Instruct"
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)


def held_out(model, rows, max_length):
    samples = smollm2.gsm8k_samples(-rows, rows, max_length)
    total, tokens = 0.0, 0
    with torch.no_grad():
        for i in range(0, rows, 4):
            loss, count = smollm2.summed_loss(model, samples[i : i + 4])
            total, tokens = total + loss.item(), tokens + count
    return total / tokens, tokens


def main():
    a = arguments()
    base = smollm2.load(a.base)
    base.set_attn_implementation(a.attention)
    torch.manual_seed(a.seed)
    if a.initial and a.initial != "formula":
        model = PeftModel.from_pretrained(base, a.initial, is_trainable=True)
    else:
        config = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules=smollm2.PROJECTIONS, task_type="CAUSAL_LM")
        model = get_peft_model(base, config)
        if a.initial:
            fill_by_formula(model)
    model.train()
    save(model, a.output / "initial")
    if a.no_train:
        return
    per_step = a.batch * a.accumulate
    samples = smollm2.gsm8k_samples(a.first_row, a.steps * per_step, a.max_length)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=a.lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    result = {"versions": versions(), **{k: v for k, v in vars(a).items() if k not in ("output", "no_train")}}
    result |= {"trainable": sum(p.numel() for p in parameters), "losses": [], "tokens": [], "gradNorms": []}
    if a.eval_rows:
        result["evalBefore"], result["evalTokens"] = held_out(model, a.eval_rows, a.max_length)
    start = time.time()
    for step in range(a.steps):
        rows = samples[step * per_step : (step + 1) * per_step]
        micro = [rows[i : i + a.batch] for i in range(0, len(rows), a.batch)]
        count = sum(sum(label != -100 for label in labels[1:]) for _, labels in rows)
        optimizer.zero_grad()
        loss = 0.0
        for part in micro:
            total, _ = smollm2.summed_loss(model, part)
            (total / count).backward()
            loss += total.item()
        norm = torch.nn.utils.clip_grad_norm_(parameters, float("inf"))
        optimizer.step()
        result["losses"].append(loss / count)
        result["tokens"].append(count)
        result["gradNorms"].append(norm.item())
        print(f"step {step + 1}: loss {loss / count:.6f}, {count} tokens", flush=True)
    result["seconds"] = round(time.time() - start, 1)
    if a.eval_rows:
        result["evalAfter"], _ = held_out(model, a.eval_rows, a.max_length)
    save(model, a.output / "final")
    write_json(a.output / "result.json", result)


main()
