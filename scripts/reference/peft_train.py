"""Adapters and training runs of PEFT on the tiny models of fixtures/families → fixtures/peft-tiny/<run>/. Run family_vectors.py first.

Each run: adapter/ (adapter_config.json, adapter_model.safetensors: the initial adapter as PEFT saves it; not for full), run.json (base,
hyper-parameters, loss of every step, gradient norm before clipping, learning rate) and run.safetensors: `logits` of the initial adapter
on `input_ids` of batches.safetensors step 0, `grad.<key>` of step 1 (before clipping), `final.<key>` after the last step.
Keys are those of adapter_model.safetensors; for full fine-tuning those of the model, and only some of them (the losses see the rest).
"""
import re
import shutil

from common import FIXTURES, versions, write_json, write_tensors

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, get_cosine_schedule_with_warmup

OUT = FIXTURES / "peft-tiny"
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
STEPS, BATCH, LENGTH = 10, 2, 24


def batches():
    """10 batches of 2 × 24; labels of a prompt of varying length are -100, and the tails of some rows are padding (id 2, label -100)."""
    g = torch.Generator().manual_seed(77)
    ids = torch.randint(3, 128, (STEPS, BATCH, LENGTH), generator=g)
    labels = ids.clone()
    for s in range(STEPS):
        for b in range(BATCH):
            labels[s, b, : 3 + (s + 5 * b) % 7] = -100
            tail = (s * 3 + b) % 4
            if tail:
                ids[s, b, -tail:] = 2
                labels[s, b, -tail:] = -100
    return ids, labels


def base_model(name):
    return AutoModelForCausalLM.from_pretrained(FIXTURES / "families" / name, attn_implementation="eager", dtype=torch.float32)


def file_key(name):
    """Parameter name inside the PEFT model → key in adapter_model.safetensors."""
    return re.sub(r"\.modules_to_save\.default|\.default", "", name)


def disturb(model, seed):
    """Nothing that is trained stays at a value that hides errors: B, biases and saved modules get seeded noise."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if not p.requires_grad:
                continue
            noise = torch.randn(p.shape, generator=g)
            if "lora_A" in name or "lora_embedding_B" in name:
                p.copy_(noise * 0.2)
            elif "lora_" in name:
                p.copy_(noise * 0.05)
            else:
                p.add_(noise * 0.1)


def wanted(key, parts):
    """Whether `key` contains one of `parts`; None wants all."""
    return parts is None or any(part in key for part in parts)


def train(model, ids, labels, options, out):
    """`options['steps']` steps of torch.optim.AdamW; fills `out` and returns what run.json records."""
    parameters = {file_key(n): p for n, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(parameters.values(), lr=options["lr"], betas=(0.9, 0.999), eps=1e-8, weight_decay=options["weightDecay"])
    schedule = None
    if options["schedule"] == "cosine":
        schedule = get_cosine_schedule_with_warmup(optimizer, options["warmupSteps"], options["steps"])
    losses, norms, rates = [], [], []
    model.train()
    for step in range(options["steps"]):
        loss = model(input_ids=ids[step], labels=labels[step]).loss
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            out |= {f"grad.{k}": p.grad.clone() for k, p in parameters.items() if wanted(k, options["gradients"])}
        limit = options["maxGradNorm"] or float("inf")
        norms.append(torch.nn.utils.clip_grad_norm_(parameters.values(), limit).item())
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if schedule:
            schedule.step()
        losses.append(loss.item())
    out |= {f"final.{k}": p for k, p in parameters.items() if wanted(k, options["finals"])}
    return {"losses": losses, "gradNorms": norms, "learningRates": rates, "trainable": sum(p.numel() for p in parameters.values())}


def run(name, config, base="llama", seed=1, steps=3, lr=1e-3, weight_decay=0.0, max_grad_norm=None, schedule="constant", warmup=0, initial=None, gradients=None, finals=None):
    """One run. `config`: LoraConfig arguments, or None for full fine-tuning. `initial`: take the initial adapter of another run."""
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    ids, labels = batches()
    model = base_model(base)
    tensors = {}
    if config is not None:
        torch.manual_seed(seed)
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **config))
        if initial is None:
            disturb(model, seed)
            model.peft_config["default"].base_model_name_or_path = f"fixtures/families/{base}"
            model.save_pretrained(folder / "adapter")
            (folder / "adapter" / "README.md").unlink()
        saved = load_file((OUT / initial if initial else folder) / "adapter" / "adapter_model.safetensors")
        own = {file_key(n): p for n, p in model.named_parameters() if p.requires_grad}
        with torch.no_grad():
            for key, p in own.items():
                p.copy_(saved[key])
    else:
        for p in model.parameters():
            p.requires_grad_(True)
    model.eval()
    tensors["logits"] = model(ids[0]).logits
    options = {
        "steps": steps, "lr": lr, "weightDecay": weight_decay, "maxGradNorm": max_grad_norm, "schedule": schedule, "warmupSteps": warmup,
        "betas": [0.9, 0.999], "eps": 1e-8, "gradients": gradients, "finals": finals,
    }
    record = train(model, ids, labels, options, tensors)
    if config is not None:
        for key, value in get_peft_model_state_dict(model).items():  # the final adapter is what PEFT would save
            assert f"final.{key}" not in tensors or torch.equal(tensors[f"final.{key}"], value), key
    write_tensors(folder / "run.safetensors", tensors)
    options = {k: v for k, v in options.items() if k not in ("gradients", "finals")}
    write_json(folder / "run.json", {"versions": versions(), "base": f"families/{base}", "adapter": f"{initial or name}/adapter" if config is not None else None, **options, **record})
    print(f"{name}: {' '.join(f'{x:.4f}' for x in record['losses'])} | norms {record['gradNorms'][0]:.3f} | {record['trainable']}")


ids, labels = batches()
write_tensors(OUT / "batches.safetensors", {"input_ids": ids.int(), "labels": labels.int()})
ALL = {"r": 8, "lora_alpha": 16, "target_modules": PROJECTIONS}
QV = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}
run("lora", ALL, steps=10)
run("schedule", ALL, steps=10, weight_decay=0.01, max_grad_norm=1.0, schedule="cosine", warmup=3, initial="lora", gradients=[])
SOME = ["embed_tokens", "layers.0.self_attn.q_proj", "layers.1.self_attn.v_proj", "layers.1.mlp.down_proj", "norm", "lm_head"]
run("full", None, steps=5, gradients=SOME[:-1], finals=SOME)
run("rslora", {**QV, "use_rslora": True}, seed=2)
run("patterns", {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj"], "rank_pattern": {"q_proj": 2, r"layers\.1\.mlp\.down_proj": 6}, "alpha_pattern": {"layers.0.self_attn.v_proj": 3, "down_proj": 12}}, seed=3)
run("embedding", {**QV, "target_modules": ["embed_tokens", "q_proj"]}, seed=4)
run("modules-to-save", {**QV, "modules_to_save": ["lm_head"]}, seed=5)
run("bias-lora-only", {**QV, "bias": "lora_only"}, base="qwen2", seed=6)
run("bias-all", {**QV, "target_modules": ["q_proj"], "bias": "all"}, base="qwen2", seed=7)
run("regex-layers", {**QV, "target_modules": r".*\.layers\.1\..*(q_proj|up_proj)"}, seed=8)
run("layers-to-transform", {**QV, "layers_to_transform": [1], "exclude_modules": ["v_proj"]}, seed=9)
run("tied-qwen3", {**QV, "target_modules": "all-linear"}, base="qwen3", seed=10)
