"""A runner of whole training steps with PyTorch, PEFT and bitsandbytes: peft_step.py JSON.

Speaks the protocol of src/jobs/protocol.ts: a JSON line `ready` after two steps, one `step` for each line read, `done` at the end of the input.
Shapes are those of the job, weights and tokens random; r, alpha, targets, optimizer and dtype are those of our own runner.
"""
import json
import os
import resource
import sys
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
real = sys.stdout
sys.stdout = sys.stderr  # libraries talk


def tell(event, **rest):
    real.write(json.dumps({"event": event, **rest}) + "\n")
    real.flush()


def cpu():
    t = os.times()
    return 1000 * (t.user + t.system)


def resident():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def quantized(torch, bnb, model):
    for name, module in list(model.named_modules()):
        if not isinstance(module, torch.nn.Linear) or name == "lm_head":
            continue
        parent, _, leaf = name.rpartition(".")
        made = bnb.nn.Linear4bit(module.in_features, module.out_features, bias=False, compute_dtype=torch.float32, quant_type="nf4")
        made.weight = bnb.nn.Params4bit(module.weight.data, requires_grad=False, quant_type="nf4", compress_statistics=True)
        setattr(model.get_submodule(parent), leaf, made.to("cpu"))


def main():
    job = json.loads(sys.argv[1])
    threads = job.get("threads") or len(os.sched_getaffinity(0))
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(job["seed"])
    idle = resident()
    import transformers
    from transformers import LlamaConfig, LlamaForCausalLM

    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    config = LlamaConfig(**job["config"])
    model = LlamaForCausalLM(config)
    model.to(getattr(torch, {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}[job["dtype"]]))
    method = job["method"]
    if method == "qlora":
        import bitsandbytes as bnb

        versions["bitsandbytes"] = bnb.__version__
        quantized(torch, bnb, model)
    if method != "full":
        import peft
        from peft import LoraConfig, get_peft_model

        versions["peft"] = peft.__version__
        targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        model = get_peft_model(model, LoraConfig(r=job["rank"], lora_alpha=2 * job["rank"], lora_dropout=0.0, target_modules=targets, task_type="CAUSAL_LM"))
    model.train()  # before any forward pass: in eval mode bitsandbytes repacks its weights, and gradients are cut
    if job["recompute"] == "block":
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.0)
    generator = torch.Generator().manual_seed(job["seed"])

    def step():
        ids = torch.randint(0, config.vocab_size, (job["batch"], job["length"]), generator=generator)
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    loss = step()
    loss = step()
    capability = torch.backends.cpu.get_cpu_capability()
    tell("ready", device=f"PyTorch, {capability}, {threads} thread{'s' if threads > 1 else ''}", driver=None, features=[capability], packages=versions)
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
    })


try:
    main()
except Exception as error:  # noqa: BLE001 - whatever it is, the harness names it
    tell("failed", reason=f"{type(error).__name__}: {error}".replace("\n", " ")[:500])
