"""Loads an adapter folder with PEFT: load_adapter.py BASE ADAPTER. Prints what was found as one JSON line."""
import json
import sys

import torch
from peft import PeftModel
from peft.utils import load_peft_weights
from transformers import AutoModelForCausalLM

base, folder = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
model = PeftModel.from_pretrained(model, folder)
own = {k.replace(".default", ""): v for k, v in model.named_parameters() if "lora_" in k}
stored = load_peft_weights(folder, device="cpu")
unexpected = sorted(set(own) ^ set(stored)) + [k for k in stored if k in own and not torch.equal(own[k], stored[k])]
zero = sum(1 for v in own.values() if not v.abs().sum() > 0)
print(json.dumps({"lora": len(own), "zero": zero, "unexpected": unexpected}))
