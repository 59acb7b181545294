"""LoRA training of SmolLM2-135M-Instruct on GSM8K by PEFT: AdamW without decay, constant learning rate.

usage: smollm2_train.py --output DIR [--base dense|gguf|bnb|bnb-live] [--device cpu|cuda] [--dtype f32|bf16] [--steps 20 | --epoch]
       [--batch 1] [--max-length 256] [--lr 5e-4] [--accumulate 1] [--initial DIR|formula] [--seed 0] [--first-row 0] [--eval-rows 0]
       [--eval-batch 4] [--attention sdpa|eager] [--no-norms] [--no-train] [--then --output DIR2 ...]

Rows are taken in file order, answers only (see smollm2.gsm8k_samples). Writes DIR/initial (PEFT folder), DIR/final (PEFT folder) and
DIR/result.json: {base, steps, batch, ..., losses, tokens, gradNorms, evalBefore, evalAfter, evalTokens, seconds, peakBytes}. The loss of a
step is the sum over its tokens that count, divided once by their number, whatever the accumulation. --eval-rows N: mean loss a token over
the last N rows, which --epoch (every other row once; the last batch is what is left) does not train on. `seconds` is the loop alone: the
clients' start, loading, tokenizing and evaluation are outside.

--dtype bf16 is what PEFT's users run: base weights and, for bnb-live, the arithmetic on dequantized weights in bf16, adapters in f32 as
PEFT makes them, autocast to bf16. Losses are summed in f32. --no-norms leaves gradient norms out, which cost time.

--then begins another run in the same process, since importing the clients takes longer than some runs; one that fails is named, the next
ones go on, and the exit code is 1.

--initial formula: B zero, and A from a hash that any language can repeat, so that recorded losses need no stored adapter. With the A tensors
sorted by their file keys, element i (row-major) of tensor t is f32((fmix32(t * 2^20 + i) / 2^31 - 1) / sqrt(columns)), in f64 until the last
rounding; fmix32 is MurmurHash3's finalizer on u32.
"""
import argparse
import sys
import time
import traceback
from pathlib import Path

from common import versions, write_json
import smollm2

import torch
from peft import LoraConfig, PeftModel, get_peft_model


def arguments(words):
    p = argparse.ArgumentParser()
    p.add_argument("--output", required=True, type=Path)
    p.add_argument("--base", default="dense", choices=["dense", "gguf", "bnb", "bnb-live"])
    p.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    p.add_argument("--dtype", default="f32", choices=["f32", "bf16"])
    p.add_argument("--steps", type=int, default=20)
    p.add_argument("--epoch", action="store_true", help="as many steps as all rows that are not held out make")
    p.add_argument("--batch", type=int, default=1)
    p.add_argument("--max-length", type=int, default=256)
    p.add_argument("--lr", type=float, default=5e-4)
    p.add_argument("--accumulate", type=int, default=1)
    p.add_argument("--initial", help="start from this adapter folder, or from 'formula', instead of PEFT's own initialization")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--first-row", type=int, default=0)
    p.add_argument("--eval-rows", type=int, default=0)
    p.add_argument("--eval-batch", type=int, default=4)
    p.add_argument("--no-norms", action="store_true")
    p.add_argument("--attention", default="sdpa", choices=["sdpa", "eager"], help="eager against sdpa shows how far two correct runs part")
    p.add_argument("--no-train", action="store_true", help="write the initial adapter only")
    return p.parse_args(words)


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


def forward(a, model, samples):
    """smollm2.summed_loss, under autocast for bf16: around each pass alone, since it keeps narrowed copies of the adapters until its end."""
    with torch.autocast(a.device, torch.bfloat16, enabled=a.dtype == "bf16"):
        return smollm2.summed_loss(model, samples)


def held_out(a, model):
    samples = smollm2.gsm8k_samples(-a.eval_rows, a.eval_rows, a.max_length)
    total, tokens = 0.0, 0
    with torch.no_grad():
        for i in range(0, a.eval_rows, a.eval_batch):
            loss, count = forward(a, model, samples[i : i + a.eval_batch])
            total, tokens = total + loss.item(), tokens + count
    return total / tokens, tokens


def adapted(a):
    base = smollm2.load(a.base, a.device, {"f32": torch.float32, "bf16": torch.bfloat16}[a.dtype])
    base.set_attn_implementation(a.attention)
    torch.manual_seed(a.seed)
    if a.initial and a.initial != "formula":
        return PeftModel.from_pretrained(base, a.initial, is_trainable=True)
    config = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules=smollm2.PROJECTIONS, task_type="CAUSAL_LM")
    model = get_peft_model(base, config)
    if a.initial:
        fill_by_formula(model)
    return model


def loop(a, model, parameters, samples):
    """Trains; gives (losses, tokens that count, gradient norms) of the steps. On a GPU nothing is waited for between steps."""
    optimizer = torch.optim.AdamW(parameters, lr=a.lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    per_step = a.batch * a.accumulate
    totals, tokens, norms = [], [], []
    for start in range(0, len(samples), per_step):
        rows = samples[start : start + per_step]
        micro = [rows[i : i + a.batch] for i in range(0, len(rows), a.batch)]
        count = sum(sum(label != -100 for label in labels[1:]) for _, labels in rows)
        optimizer.zero_grad()
        sums = []
        for part in micro:
            total, _ = forward(a, model, part)
            (total / count).backward()
            sums.append(total.detach())
        if not a.no_norms:
            norms.append(torch.nn.utils.clip_grad_norm_(parameters, float("inf")))
        optimizer.step()
        totals.append(sums)
        tokens.append(count)
        if a.device == "cpu":
            print(f"step {len(tokens)}: loss {sum(s.item() for s in sums) / count:.6f}, {count} tokens", flush=True)
    losses = [sum(s.item() for s in sums) / count for sums, count in zip(totals, tokens)]
    return losses, tokens, [n.item() for n in norms]


def run(a):
    if a.device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("torch sees no GPU here")
    model = adapted(a)
    model.train()
    save(model, a.output / "initial")
    if a.no_train:
        return
    per_step = a.batch * a.accumulate
    rows = a.steps * per_step
    if a.epoch:
        rows = len(smollm2.GSM8K.read_text().splitlines()) - a.eval_rows - a.first_row
        a.steps = -(-rows // per_step)
    samples = smollm2.gsm8k_samples(a.first_row, rows, a.max_length)
    parameters = [p for p in model.parameters() if p.requires_grad]
    result = {"versions": versions(), **{k: v for k, v in vars(a).items() if k not in ("output", "no_train")}}
    result |= {"trainable": sum(p.numel() for p in parameters), "inputTokens": sum(len(ids) for ids, _ in samples)}
    if a.eval_rows:
        result["evalBefore"], result["evalTokens"] = held_out(a, model)
    if a.device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    result["losses"], result["tokens"], result["gradNorms"] = loop(a, model, parameters, samples)
    result["seconds"] = round(time.perf_counter() - start, 3)  # the losses were read: all steps are done
    if a.device == "cuda":
        result["peakBytes"] = torch.cuda.max_memory_allocated()
    if a.eval_rows:
        result["evalAfter"], _ = held_out(a, model)
    save(model, a.output / "final")
    write_json(a.output / "result.json", result)
    print(f"{a.output.name}: {a.steps} steps in {result['seconds']} s, loss {result['losses'][0]:.4f} to {result['losses'][-1]:.4f}", flush=True)


def main():
    runs, failed = [[]], False
    for word in sys.argv[1:]:
        if word == "--then":
            runs.append([])
        else:
            runs[-1].append(word)
    for a in [arguments(words) for words in runs]:
        try:
            run(a)
        except Exception as error:
            failed = True
            traceback.print_exc()
            print(f"{a.output.name}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
