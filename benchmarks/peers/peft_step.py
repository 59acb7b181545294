"""A runner of whole training steps with PyTorch, PEFT and bitsandbytes, optionally with Liger's kernels, or with Unsloth: peft_step.py JSON.

Speaks the protocol of src/jobs/protocol.ts: a JSON line `ready` after two steps, one `step` for each line read, `done` at the end of the input.
Shapes are those of the job, weights and tokens random; r, alpha, targets, optimizer and dtype are those of our own runner.
"""
import json
import os
import resource
import subprocess
import sys
import tempfile
import time

job = json.loads(sys.argv[1])
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")
if job["stack"] != "unsloth":  # its blocks are compiled
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
real = sys.stdout
sys.stdout = sys.stderr  # libraries talk

targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
on_gpu = job["place"] == "cuda"


def tell(event, **rest):
    real.write(json.dumps({"event": event, **rest}) + "\n")
    real.flush()


def cpu():
    t = os.times()
    return 1000 * (t.user + t.system)


def resident():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def driver():
    if not on_gpu:
        return None
    ask = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    return subprocess.run(ask, capture_output=True, text=True).stdout.split("\n")[0].strip() or None


def random_model(torch, dtype):
    """The shapes of the job with random weights, made where they are used."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(**job["config"])
    torch.set_default_dtype(dtype)
    with torch.device(job["place"]):
        model = LlamaForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    return model


def quantized(torch, bnb, model, dtype):
    for name, module in list(model.named_modules()):
        if not isinstance(module, torch.nn.Linear) or name == "lm_head":
            continue
        parent, _, leaf = name.rpartition(".")
        made = bnb.nn.Linear4bit(module.in_features, module.out_features, bias=False, compute_dtype=dtype, quant_type="nf4", device="meta")
        made.weight = bnb.nn.Params4bit(module.weight.data, requires_grad=False, quant_type="nf4", compress_statistics=True)
        setattr(model.get_submodule(parent), leaf, made.to(job["place"]))


def peft_model(torch, dtype, versions):
    if job["stack"] == "liger":
        import liger_kernel
        from liger_kernel.transformers import apply_liger_kernel_to_llama

        versions["liger-kernel"] = getattr(liger_kernel, "__version__", "unknown")
        apply_liger_kernel_to_llama()
    model = random_model(torch, dtype)
    if job["method"] == "qlora":
        import bitsandbytes as bnb

        versions["bitsandbytes"] = bnb.__version__
        quantized(torch, bnb, model, dtype)
    if job["method"] != "full":
        import peft
        from peft import LoraConfig, get_peft_model

        versions["peft"] = peft.__version__
        model = get_peft_model(model, LoraConfig(r=job["rank"], lora_alpha=2 * job["rank"], lora_dropout=0.0, target_modules=targets, task_type="CAUSAL_LM"))
    model.train()  # before any forward pass: in eval mode bitsandbytes repacks its weights on the CPU, and gradients are cut
    if job["recompute"] == "block":
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if job["method"] != "full":
            model.enable_input_require_grads()
    return model


def unsloth_model(torch, dtype, versions):
    """It loads folders alone: one with random weights and a tokenizer of single bytes."""
    import unsloth
    from unsloth import FastLanguageModel

    versions["unsloth"] = unsloth.__version__
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    with tempfile.TemporaryDirectory() as folder:
        model = random_model(torch, dtype)
        model.save_pretrained(folder)
        vocabulary = {"<s>": 0, "</s>": 1, **{chr(256 + i): i + 2 for i in range(256)}}
        tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>").save_pretrained(folder)
        del model
        torch.cuda.empty_cache()
        model, _ = FastLanguageModel.from_pretrained(model_name=folder, max_seq_length=job["length"], dtype=dtype, load_in_4bit=job["method"] == "qlora")
    return FastLanguageModel.get_peft_model(
        model,
        r=job["rank"],
        lora_alpha=2 * job["rank"],
        lora_dropout=0,
        target_modules=targets,
        bias="none",
        use_gradient_checkpointing="unsloth" if job["recompute"] == "block" else False,
        random_state=job["seed"],
    )


def main():
    if job["stack"] == "unsloth":
        import unsloth  # noqa: F401 - patches the others, so it comes first
    import torch
    import transformers

    threads = job.get("threads") or len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    torch.manual_seed(job["seed"])
    idle = resident()
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    dtype = getattr(torch, {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}[job["dtype"]])
    make = unsloth_model if job["stack"] == "unsloth" else peft_model
    model = make(torch, dtype, versions)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.0)
    generator = torch.Generator().manual_seed(job["seed"])
    vocabulary = job["config"]["vocab_size"]
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()

    def step():
        ids = torch.randint(0, vocabulary, (job["batch"], job["length"]), generator=generator).to(job["place"])
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if on_gpu:
            torch.cuda.synchronize()
        return loss.item()

    loss = step()
    loss = step()
    capability = torch.backends.cpu.get_cpu_capability()
    where = f"{torch.cuda.get_device_name(0)}, PyTorch" if on_gpu else f"PyTorch, {capability}, {threads} thread{'s' if threads > 1 else ''}"
    features = ["sm_%d%d" % torch.cuda.get_device_capability(0)] if on_gpu else [capability]
    tell("ready", device=where, driver=driver(), features=features, packages=versions)
    for _ in sys.stdin:
        before, start = cpu(), time.perf_counter()
        loss = step()
        tell("step", milliseconds=1000 * (time.perf_counter() - start), cpuMilliseconds=max(0.0, cpu() - before))
    tell("done", notes=[], figures={
        "idleResidentBytes": idle,
        "residentBytes": resident(),
        "peakResidentBytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "trainable": sum(p.numel() for p in parameters),
        "loss": loss,
        **({"peakBytes": torch.cuda.max_memory_allocated(), "reservedBytes": torch.cuda.max_memory_reserved()} if on_gpu else {}),
    })


try:
    main()
except Exception as error:  # noqa: BLE001 - whatever it is, the harness names it
    tell("failed", reason=f"{type(error).__name__}: {error}".replace("\n", " ")[:500])
