"""Runs bundled/recipe.json in PyTorch + PEFT + bitsandbytes on a CPU: what the bundled model should learn from its instruction set.

    python scripts/pretrain/check_recipe.py [--bundled bundled] [--seed 0] [--max-steps N]

Prints the exact-match score on the held-out part before and after, and how many tokens (padding counted) training took.
"""

import argparse
import json
import math
import time
from pathlib import Path

import bitsandbytes as bnb
import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer


def quantized(model: nn.Module, block_size: int) -> nn.Module:
    """Replaces every projection's weight by the values its NF4 codes (doubly quantized) stand for."""
    for name, module in model.named_modules():
        if name.endswith("_proj"):
            codes, state = bnb.functional.quantize_4bit(module.weight.data, blocksize=block_size, quant_type="nf4", compress_statistics=True)
            module.weight.data = bnb.functional.dequantize_4bit(codes, state).to(torch.float32).reshape(module.weight.shape)
    return model


def same_json(answer: str, wanted: str) -> bool:
    try:
        return json.loads(answer) == json.loads(wanted)
    except json.JSONDecodeError:
        return False


@torch.no_grad()
def score(model: nn.Module, tokenizer, records: list[dict], show: int) -> float:
    """Share of records whose greedy answer parses to the wanted JSON."""
    model.eval()
    inputs = tokenizer([r["prompt"] for r in records], return_tensors="pt", padding=True, padding_side="left", return_token_type_ids=False)
    made = model.generate(**inputs, max_new_tokens=40, do_sample=False)[:, inputs.input_ids.shape[1] :]
    answers = tokenizer.batch_decode(made, skip_special_tokens=True)
    for record, answer in list(zip(records, answers))[:show]:
        print(f"  {record['prompt'].strip()}  →  {answer.strip()}")
    model.train()
    return sum(same_json(a, r["completion"]) for a, r in zip(answers, records)) / len(records)


def batches(lengths: list[int], size: int, grouped: bool, rng: np.random.Generator):
    """Row numbers of one batch after another, for ever; grouped: rows of about one length, sorted within 50 batches' worth."""
    while True:
        order = rng.permutation(len(lengths))
        if grouped:
            chunks = [sorted(order[i : i + 50 * size], key=lambda row: -lengths[row]) for i in range(0, len(order), 50 * size)]
            flat = [row for chunk in chunks for row in chunk]
            order = np.array(flat)
            starts = rng.permutation(range(0, len(order), size))
        else:
            starts = range(0, len(order), size)
        for start in starts:
            yield order[start : start + size]


def factor(step: int, total: int, warmup: int, schedule: str) -> float:
    if step < warmup:
        return step / max(1, warmup)
    progress = (step - warmup) / max(1, total - warmup)
    return {"constant": 1.0, "linear": 1 - progress, "cosine": 0.5 * (1 + math.cos(math.pi * progress))}[schedule]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundled", type=Path, default=Path("bundled"))
    parser.add_argument("--seed", type=int)
    parser.add_argument("--max-steps", type=int)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    recipe = json.loads((args.bundled / "recipe.json").read_text())
    seed = recipe["seed"] if args.seed is None else args.seed
    steps = args.max_steps or recipe["maxSteps"]
    train, held = ([json.loads(line) for line in open(args.bundled / "instructions" / f"{part}.jsonl")] for part in ("train", "heldout"))

    torch.manual_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(args.bundled / "model")
    base = AutoModelForCausalLM.from_pretrained(args.bundled / "model", dtype=torch.float32)
    model = get_peft_model(
        quantized(base, recipe["blockSize"]),
        LoraConfig(r=recipe["r"], lora_alpha=recipe["loraAlpha"], lora_dropout=recipe["loraDropout"], target_modules="all-linear"),
    )
    model.print_trainable_parameters()
    print(f"before: {score(model, tokenizer, held, 4):.3f}", flush=True)

    encode = lambda text: tokenizer(text, add_special_tokens=False).input_ids
    rows = [(encode(r["prompt"]), encode(r["completion"]) + [tokenizer.eos_token_id]) for r in train]
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=recipe["learningRate"], weight_decay=recipe["weightDecay"])
    drawn = batches([len(p) + len(c) for p, c in rows], recipe["batchSize"], recipe["groupByLength"], np.random.default_rng(seed))
    tokens, losses, began = 0, [], time.monotonic()
    for step in range(steps):
        part = [rows[i] for i in next(drawn)]
        width = max(len(p) + len(c) for p, c in part)
        tokens += width * len(part)
        fill = lambda kept, value: torch.tensor([row + [value] * (width - len(row)) for row in kept])
        inputs, labels = fill([p + c for p, c in part], tokenizer.pad_token_id), fill([[-100] * len(p) + c for p, c in part], -100)
        for group in optimizer.param_groups:
            group["lr"] = recipe["learningRate"] * factor(step, steps, recipe["warmupSteps"], recipe["lrScheduler"])
        loss = model(input_ids=inputs, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable, recipe["maxGradNorm"])
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if (step + 1) % 50 == 0:
            print(f"step {step + 1}: loss {np.mean(losses[-50:]):.4f}, {time.monotonic() - began:.0f} s", flush=True)
    print(f"after {steps} steps, {tokens} tokens, seed {seed}: {score(model, tokenizer, held, 8):.3f}")


if __name__ == "__main__":
    main()
