"""SmolLM2-135M-Instruct for the scripts beside this one: its three bases as exact f32 models, and GSM8K as token ids.

bitsandbytes is imported where a base needs it: the dense ones run without."""
import json

from common import GSM8K, MODELS, SMOLLM2, SMOLLM2_BNB

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def dequantized_state(folder):
    """State dict of a bitsandbytes 4-bit checkpoint with every weight as f32: code * absmax, not rounded to the checkpoint's bf16
    (rounded, the first loss on GSM8K is 2.0030 instead of 2.0013)."""
    from bitsandbytes.functional import QuantState, dequantize_4bit

    stored = load_file(f"{folder}/model.safetensors")
    state = {}
    for key, value in stored.items():
        if key.endswith(".weight") and f"{key}.quant_map" in stored:
            parts = {k.removeprefix(f"{key}."): v for k, v in stored.items() if k.startswith(f"{key}.")}
            quant = QuantState.from_dict(parts, device=torch.device("cpu"))
            quant.dtype = torch.float32
            state[key] = dequantize_4bit(value, quant)
        elif ".weight." not in key:
            state[key] = value.float()
    return state


def dense_from_bnb(folder=SMOLLM2_BNB):
    config = LlamaConfig.from_pretrained(folder)
    del config.quantization_config
    model = LlamaForCausalLM(config).float()
    missing, unexpected = model.load_state_dict(dequantized_state(folder), strict=False)
    assert missing in ([], ["lm_head.weight"]) and not unexpected, (missing, unexpected)
    model.tie_weights()
    return model


def live_bnb(folder=SMOLLM2_BNB, compute=torch.float32, device="cpu"):
    """bitsandbytes' own Linear4bit, all in `compute`.

    - transformers keeps the checkpoint's bf16 for embeddings and norms whatever dtype is asked: they are raised here.
    - The forward pass dequantizes to the dtype of its input, the backward pass to quant_state.dtype (bf16 here, a rounding that the forward
      pass does not have): it is set to `compute`.
    - The model is put in train mode before its first forward pass: in eval mode CPUs with AVX-512 BF16 repack the weights into a form
      without a derivative."""
    from bitsandbytes.nn import Linear4bit

    model = AutoModelForCausalLM.from_pretrained(folder, device_map=device).train()
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.compute_dtype, module.weight.quant_state.dtype = compute, compute
        else:
            for p in module.parameters(recurse=False):
                p.data = p.data.to(compute)
    return model


def evaluating(model):
    """Eval mode (no dropout) with every Linear4bit left in train mode, for the reason above."""
    from bitsandbytes.nn import Linear4bit

    model.eval()
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.train()
    return model


def load(base, device="cpu", dtype=torch.float32):
    """`base`: dense (the bf16 folder), gguf, bnb (all three as Linear weights of `dtype`) or bnb-live."""
    if base == "bnb-live":
        return live_bnb(compute=dtype, device=device)
    if base == "dense":
        model = AutoModelForCausalLM.from_pretrained(SMOLLM2, dtype=dtype)
    elif base == "gguf":
        model = AutoModelForCausalLM.from_pretrained(MODELS, gguf_file=GGUF, dtype=dtype)
    else:
        model = dense_from_bnb().to(dtype)
    return model.to(device)


def tokenizer():
    return AutoTokenizer.from_pretrained(SMOLLM2)


def gsm8k_samples(first, count, max_length):
    """(ids, labels) of `count` rows from row `first` (negative: from the end): question + newline | answer + eos, prompt masked, cut."""
    tok = tokenizer()
    rows = [json.loads(line) for line in GSM8K.read_text().splitlines()]
    rows = rows[first:][:count]
    assert len(rows) == count, f"only {len(rows)} rows"
    samples = []
    for row in rows:
        prompt = tok(row["question"] + "\n").input_ids
        completion = tok(row["answer"]).input_ids + [tok.eos_token_id]
        samples.append(((prompt + completion)[:max_length], ([-100] * len(prompt) + completion)[:max_length]))
    return samples


def collate(samples):
    """Right-padded tensors: ids (pad = eos, 2), labels (-100), mask."""
    longest = max(len(ids) for ids, _ in samples)
    pad = lambda values, fill: torch.tensor([v + [fill] * (longest - len(v)) for v in values])
    return pad([s[0] for s in samples], 2), pad([s[1] for s in samples], -100), pad([[1] * len(s[0]) for s in samples], 0)


def summed_loss(model, samples):
    """(sum of the cross-entropies of the tokens that count, in f32 whatever the logits are; how many they are)."""
    ids, labels, mask = collate(samples)
    count = int((labels[:, 1:] != -100).sum())
    ids, labels, mask = (t.to(model.device) for t in (ids, labels, mask))
    logits = model(input_ids=ids, attention_mask=mask).logits
    targets = labels[:, 1:].reshape(-1)
    total = torch.nn.functional.cross_entropy(logits[:, :-1].reshape(len(targets), -1).float(), targets, ignore_index=-100, reduction="sum")
    return total, count
