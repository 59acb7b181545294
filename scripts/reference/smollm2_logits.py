"""Logits and greedy text of SmolLM2-135M-Instruct in f32 from transformers, for 20 prompts of 5 to 400 tokens.

usage: smollm2_logits.py --output DIR [--base dense|gguf|bnb|bnb-live] [--new-tokens 64] [--prompts 20] [--summary FILE.json]

DIR/prompts.json: {versions, base, newTokens, prompts: [{name, ids, positions, argmax (at every position), greedy (ids), margin}]}; margin is the smallest
difference between the best and the second logit on the greedy path (a path with a margin of 1e-4 may part from ours without a fault).
DIR/logits.safetensors: `<index>` f32 [positions, vocabulary], at up to 8 positions of each prompt, the first and the last among them.
--summary also writes a small record: for each of the positions max, mean of squares, log-sum-exp, and the logits of a few ids.
"""
import argparse
import json
from pathlib import Path

from common import GSM8K, versions, write_json, write_tensors
import smollm2

import torch

LENGTHS = [5, 8, 13, 21, 31, 32, 33, 47, 64, 65, 80, 100, 127, 128, 160, 200, 256, 300, 350, 400]
SUMMARY_IDS = [0, 1, 2, 13, 28, 99, 260, 1000, 4242, 12345, 31999, 49151]


def prompts(count):
    """Rows of GSM8K one after the other, cut at the wanted length; every fourth one is a chat about the row's question."""
    tok = smollm2.tokenizer()
    rows = [json.loads(line) for line in GSM8K.read_text().splitlines()]
    out = []
    for i, length in enumerate(LENGTHS[:count]):
        if i % 4 == 3:
            chat = [{"role": "user", "content": rows[i]["question"]}, {"role": "assistant", "content": rows[i]["answer"]}, {"role": "user", "content": rows[i + 1]["question"]}]
            text = tok.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        else:
            text = ""
        row = 40 * i
        while len(tok(text).input_ids) < length:
            text += rows[row]["question"] + "\n" + rows[row]["answer"] + "\n\n"
            row += 1
        out.append({"name": f"{'chat' if i % 4 == 3 else 'text'}-{length}", "ids": tok(text).input_ids[:length]})
    return out


def greedy(model, ids, count):
    """Greedy continuation with a KV cache; stops at nothing. Returns (ids, smallest margin of the best logit)."""
    out, margin, cache = [], float("inf"), None
    step = torch.tensor([ids])
    for _ in range(count):
        result = model(step, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache = result.past_key_values
        best = result.logits[0, -1].topk(2)
        margin = min(margin, (best.values[0] - best.values[1]).item())
        out.append(best.indices[0].item())
        step = best.indices[:1].view(1, 1)
    return out, margin


@torch.no_grad()
def main():
    p = argparse.ArgumentParser()
    p.add_argument("--output", required=True, type=Path)
    p.add_argument("--base", default="dense", choices=["dense", "gguf", "bnb", "bnb-live"])
    p.add_argument("--new-tokens", type=int, default=64)
    p.add_argument("--prompts", type=int, default=20)
    p.add_argument("--summary", type=Path)
    a = p.parse_args()
    model = smollm2.evaluating(smollm2.load(a.base))
    records, tensors, summary = prompts(a.prompts), {}, []
    for i, record in enumerate(records):
        n = len(record["ids"])
        logits = model(torch.tensor([record["ids"]])).logits[0]
        record["positions"] = sorted({round(k * (n - 1) / 7) for k in range(8)})
        kept = logits[record["positions"]].clone()
        record["argmax"] = logits.argmax(-1).tolist()
        record["greedy"], record["margin"] = greedy(model, record["ids"], a.new_tokens)
        tensors[str(i)] = kept
        summary.append({
            **record,
            "max": kept.max(-1).values.tolist(),
            "meanSquare": kept.double().square().mean(-1).tolist(),
            "logSumExp": kept.logsumexp(-1).tolist(),
            "logits": kept[:, SUMMARY_IDS].tolist(),
        })
        print(f"{record['name']}: {n} tokens, margin {record['margin']:.4f}", flush=True)
    head = {"versions": versions(), "base": a.base, "newTokens": a.new_tokens}
    write_json(a.output / "prompts.json", {**head, "prompts": records}, indent=None)
    write_tensors(a.output / "logits.safetensors", tensors)
    if a.summary:
        write_json(a.summary, {**head, "logitIds": SUMMARY_IDS, "prompts": summary}, indent=None)


main()
