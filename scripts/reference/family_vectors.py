"""Tiny random models of each family with the logits, loss, gradients and greedy text of transformers → fixtures/families/<name>/.

Each folder: config.json and model.safetensors as transformers saves them (f32), config.legacy.json (the layout of transformers 4, which
most folders in the world still have: rope_theta and rope_scaling at the top level), vectors.safetensors and vectors.json.
"""
import json
import shutil

from common import FIXTURES, versions, write_json, write_tensors

import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

BASE = {
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
    "tie_word_embeddings": False,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
FAMILIES = {  # name: (config class, what differs, sequence length)
    "llama": (LlamaConfig, {}, 24),
    "llama3": (LlamaConfig, {"rope_parameters": LLAMA3_ROPE, "max_position_embeddings": 256}, 48),
    "llama-linear-rope": (LlamaConfig, {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}}, 24),
    "smollm2": (LlamaConfig, {"tie_word_embeddings": True, "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0}}, 24),
    "mistral": (MistralConfig, {"sliding_window": 8}, 24),
    "qwen2": (Qwen2Config, {"use_sliding_window": False, "sliding_window": 8, "max_window_layers": 1, "rms_norm_eps": 1e-6, "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0}}, 24),
    "qwen3": (Qwen3Config, {"head_dim": 32, "tie_word_embeddings": True, "rms_norm_eps": 1e-6, "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0}}, 24),
}
GRADIENTS = [
    "model.embed_tokens.weight",
    "model.layers.0.self_attn.q_proj.weight",
    "model.layers.0.self_attn.q_proj.bias",
    "model.layers.0.self_attn.k_norm.weight",
    "model.layers.0.input_layernorm.weight",
    "model.layers.1.mlp.down_proj.weight",
    "model.norm.weight",
    "lm_head.weight",
]


def legacy(config):
    """config.json as transformers 4 wrote it."""
    out = dict(config)
    rope = dict(out.pop("rope_parameters"))
    out["rope_theta"] = rope.pop("rope_theta")
    if rope["rope_type"] == "linear":
        rope["type"] = rope.pop("rope_type")  # the oldest name of the key
    out["rope_scaling"] = None if rope.get("rope_type") == "default" else rope
    out.pop("layer_types", None)
    if out.get("use_sliding_window") is False:
        out["sliding_window"] = 8  # a window that must be ignored, as in the configs of Qwen2
    if out["model_type"] == "llama":
        del out["head_dim"]
    out["torch_dtype"] = out.pop("dtype")
    out["transformers_version"] = "4.40.0"
    return out


def spread(model, g):
    """Weights large enough that attention, norms and activations all show in the logits."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=g)
            if name.endswith("norm.weight"):
                p.copy_(1 + 0.2 * noise)
            elif name.endswith("bias"):
                p.copy_(0.3 * noise)
            elif "embed_tokens" in name:
                p.copy_(0.5 * noise)
            else:
                p.copy_(noise * 1.2 / p.shape[1] ** 0.5)


def make(name, kind, changes, length, seed):
    g = torch.Generator().manual_seed(seed)
    folder = FIXTURES / "families" / name
    shutil.rmtree(folder, ignore_errors=True)
    model = AutoModelForCausalLM.from_config(kind(**{**BASE, **changes}), attn_implementation="eager").float().eval()
    spread(model, g)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    config = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.legacy.json", legacy(config), indent=2)

    ids = torch.randint(3, BASE["vocab_size"], (2, length), generator=g)
    labels = ids.clone()
    labels[0, :6] = -100
    logits = model(ids).logits
    targets = labels[:, 1:]
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]), targets.reshape(-1), ignore_index=-100)
    loss.backward()
    generated = model.generate(ids[:, :10], max_new_tokens=16, do_sample=False, eos_token_id=None, pad_token_id=2)[:, 10:]

    old = AutoConfig.for_model(**legacy(config))
    again = AutoModelForCausalLM.from_config(old, attn_implementation="eager").float().eval()
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(ids).logits, logits), f"{name}: the legacy config means another model"

    parameters = dict(model.named_parameters())
    tensors = {"input_ids": ids.int(), "labels": labels.int(), "logits": logits, "generated": generated.int()}
    tensors |= {f"grad.{k}": parameters[k].grad for k in GRADIENTS if k in parameters}
    write_tensors(folder / "vectors.safetensors", tensors)
    write_json(folder / "vectors.json", {"versions": versions(), "loss": loss.item(), "tokens": int((targets != -100).sum()), "seed": seed, "prompt": 10})
    print(f"{name}: loss {loss.item():.4f}, logits up to {logits.abs().max():.2f}")


# One seed for all: llama, llama3, llama-linear-rope and mistral then have the same weights (git keeps one copy) and differ by config alone.
for name, (kind, changes, length) in FAMILIES.items():
    make(name, kind, changes, length, seed=11)
